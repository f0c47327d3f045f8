-- Deliveries are interested in the jobs that send, not in every job: a consumer may say which details matter to it.

alter table subscription add column detail jsonb not null default '{}';
update subscription set detail = '{"algorithm": "deliver"}' where kind = 'job.finished' and consumer = 'deliveries';

create or replace function armillary_emit(subject text, version bigint, kind text, actor text, "group" text, detail jsonb)
    returns void language sql as $$
    insert into event (subject, version, kind, actor, "group", detail)
        values (armillary_emit.subject, armillary_emit.version, armillary_emit.kind, armillary_emit.actor,
                armillary_emit."group", armillary_emit.detail);
    insert into wake (consumer, subject, detail)
        select consumer, armillary_emit.subject, armillary_emit.detail
        from subscription
        where subscription.kind = armillary_emit.kind and armillary_emit.detail @> subscription.detail;
$$;

create or replace function armillary_emit_all(subjects text[], versions bigint[], kinds text[], actors text[], groups text[],
                                              details jsonb[]) returns void language sql as $$
    insert into event (subject, version, kind, actor, "group", detail)
        select * from unnest(subjects, versions, kinds, actors, groups, details);
    insert into wake (consumer, subject, detail)
        select consumer, subject, told.detail
        from unnest(subjects, kinds, details) as told (subject, kind, detail)
            join subscription on subscription.kind = told.kind and told.detail @> subscription.detail;
$$;

-- Each month has its own unique index of subject and version: a second one over the same columns served nothing.
alter table event drop constraint event_pkey;
