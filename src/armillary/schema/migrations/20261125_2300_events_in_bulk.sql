-- Many events at once: one call for each costs a hundred times what a row costs.

create function armillary_emit_all(subjects text[], versions bigint[], kinds text[], actors text[], groups text[],
                                   details jsonb[]) returns void language sql as $$
    insert into event (subject, version, kind, actor, "group", detail)
        select * from unnest(subjects, versions, kinds, actors, groups, details);
    insert into wake (consumer, subject, detail)
        select consumer, subject, detail
        from unnest(subjects, kinds, details) as told (subject, kind, detail)
            join subscription on subscription.kind = told.kind;
$$;

-- The two steps that nearly every job takes are known without asking the table; a test holds both against each other.
create or replace trigger job_transition before update of state on job
    for each row when (old.state is distinct from new.state
                       and not (old.state = 'queued' and new.state = 'running')
                       and not (old.state = 'running' and new.state = 'succeeded'))
    execute function job_transition_allowed();
