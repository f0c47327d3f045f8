-- What is wrong, since when, and what was done about it: the watchdog's findings, and when each of its sweeps ran.
create table finding (
    id          uuid primary key,
    sweep       text not null,
    subject     text not null,                     -- pool:default, worker:…, host:node-1, job:…
    severity    text not null check (severity in ('notice', 'warning', 'error')),
    reason      text not null,
    action      text not null default '',          -- what was done about it already
    remedy      text not null default '',          -- what a person can do, the command included
    "group"     text not null references user_group (id),
    version     bigint not null default 1,
    opened_at   timestamptz not null default armillary_now(),
    seen_at     timestamptz not null default armillary_now(),
    closed_at   timestamptz
);
create unique index finding_open on finding (sweep, subject) where closed_at is null;
create index finding_closed on finding (closed_at) where closed_at is not null;

create table sweep (
    name        text primary key,
    ran_at      timestamptz not null default armillary_now(),
    seconds     double precision not null,
    error       text not null default ''
);

-- How many findings are open, those sweeps and severities included of which there are none: what metrics read.
create function armillary_findings() returns table (sweep text, severity text, open bigint) language sql stable as $$
    select known.name, level.severity, count(finding.id)
    from sweep as known
        cross join unnest(array['notice', 'warning', 'error']) as level (severity)
        left join finding on finding.sweep = known.name and finding.severity = level.severity
            and finding.closed_at is null
    group by known.name, level.severity
$$;

-- How many jobs a worker held when it died; null unless it did.
alter table worker add column lost_jobs integer;
create index worker_lost on worker (ended_at) where lost_jobs is not null;

-- What a server says of itself: its loops, its disks, its clock.
alter table server add column told jsonb not null default '{}';

-- How large a pool's workers are, as its reconciler last found.
alter table pool add column size jsonb;
