-- A job and its attempt are written twice, when they start and when they end: with room for both versions in a page, no index
-- has to be told. What is there keeps its pages.

alter table job set (fillfactor = 50);

create or replace function armillary_partitions(ahead integer default 3) returns void language plpgsql as $$
declare
    parent text;
    month date;
    name text;
begin
    for month in select generate_series(date_trunc('month', armillary_now() at time zone 'UTC') - interval '1 month',
                                        date_trunc('month', armillary_now() at time zone 'UTC') + ahead * interval '1 month',
                                        interval '1 month')::date loop
        foreach parent in array array['event', 'attempt', 'log_chunk'] loop
            name := parent || to_char(month, '_YYYYMM');
            if to_regclass(name) is null then
                execute format('create table %I partition of %I for values from (%L) to (%L)', name, parent,
                    month::timestamp at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
                if parent = 'event' then
                    -- Within a month the database itself refuses two events of one version.
                    execute format('create unique index on %I (subject, version)', name);
                elsif parent = 'attempt' then
                    execute format('alter table %I set (fillfactor = 50)', name);
                end if;
            end if;
        end loop;
    end loop;
end $$;

do $$
declare
    part regclass;
begin
    for part in select inhrelid from pg_inherits where inhparent = 'attempt'::regclass loop
        execute format('alter table %s set (fillfactor = 50)', part);
    end loop;
end $$;
