-- Whoever writes events learns whether anybody subscribed to them: most have no consumer, and nobody need look for work then.

drop function armillary_emit_all(text[], bigint[], text[], text[], text[], jsonb[]);

create function armillary_emit_all(subjects text[], versions bigint[], kinds text[], actors text[], groups text[],
                                   details jsonb[]) returns bigint language sql as $$
    insert into event (subject, version, kind, actor, "group", detail)
        select * from unnest(subjects, versions, kinds, actors, groups, details);
    with woken as (
        insert into wake (consumer, subject, detail)
            select consumer, subject, told.detail
            from unnest(subjects, kinds, details) as told (subject, kind, detail)
                join subscription on subscription.kind = told.kind and told.detail @> subscription.detail
            returning 1)
    select count(*) from woken;
$$;
