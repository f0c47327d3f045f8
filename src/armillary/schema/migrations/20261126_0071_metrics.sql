-- Counters that are added up from the history, how far its readers are, and how the machines of workers are.

-- A counter has one row; a histogram one per bucket that was ever met, with what its values come to.
create table tally (
    metric text not null,
    labels text[] not null,
    bucket integer not null default 0,
    count bigint not null,
    total double precision not null,
    primary key (metric, labels, bucket)
) with (fillfactor = 50);

create table history_reader (
    name text primary key,
    read_until timestamptz not null
);

create table machine (
    pool text not null references pool (id) on delete cascade,
    host text not null,
    measured jsonb not null,
    at timestamptz not null default armillary_now(),
    primary key (pool, host)
) with (fillfactor = 50);

-- The token by which a monitoring system reads the metrics and nothing else.
alter table token drop constraint token_purpose_check;
alter table token add constraint token_purpose_check check (purpose in ('api', 'session', 'sign-in', 'worker-start', 'worker', 'pool', 'metrics'));
