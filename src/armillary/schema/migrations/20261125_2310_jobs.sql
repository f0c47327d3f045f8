-- Jobs that run after others, and deadlines.

alter table job
    add column deadline_at timestamptz,
    add column on_deadline text not null default 'fail' check (on_deadline in ('fail', 'warn'));

-- A job is held while somebody holds it or while it waits for others; `ready_at` is 'infinity' meanwhile.
alter table job_queue
    add column is_held boolean not null default false,
    add column waits integer not null default 0,   -- for so many jobs
    add column deadline_at timestamptz,            -- null as well once it was acted upon
    drop constraint job_queue_stop_check,
    add constraint job_queue_stop_check check (stop in ('cancel', 'preempt', 'deadline'));
update job_queue set is_held = true where ready_at = 'infinity';
create index job_queue_deadline on job_queue (deadline_at) where deadline_at is not null;
insert into job_transition values ('held', 'failed'), ('failed', 'held'), ('cancelled', 'held');

-- Made with the job and never added to, so that no cycle can be: what a job runs after was there before it.
create table job_dependency (
    job_id      uuid not null references job on delete cascade,
    after_id    uuid not null references job on delete cascade,
    on_failure  text not null check (on_failure in ('cancel', 'hold', 'run')),
    is_met      boolean not null default false,
    primary key (job_id, after_id)
);
create index job_dependency_open on job_dependency (after_id) where not is_met;

-- What was done to many jobs at once, with what they were before.
create table job_operation (
    id          uuid primary key,
    verb        text not null check (verb in ('cancel', 'retry', 'hold', 'release', 'priority', 'move', 'purge')),
    selection   jsonb not null,                    -- which jobs were meant
    arguments   jsonb not null default '{}',
    reason      text not null default '',
    actor       text not null,
    "group"     text not null references user_group,
    jobs        integer not null,                  -- how many it changed
    created_at  timestamptz not null default armillary_now(),
    undone_at   timestamptz,
    undone_by   text,
    restored    integer
);
create table job_operation_job (
    operation   uuid not null references job_operation on delete cascade,
    job_id      uuid not null,
    former      jsonb not null default '{}',
    primary key (operation, job_id)
);
-- A job that is gone may still be named by what it did.
alter table firing drop constraint firing_job_id_fkey;
alter table delivery drop constraint delivery_job_id_fkey;

-- What an attempt costs: its price is fixed when it is leased, its cost when it ends.
alter table attempt
    add column cost_per_hour double precision,
    add column cost double precision;
-- What jobs cost that were purged.
create table job_ledger (
    day         date not null,
    "group"     text not null,
    account     text not null,
    algorithm   text not null,
    pool        text not null,
    rule        text not null default '',
    attempts    bigint not null,
    seconds     double precision not null,
    cost        double precision not null,
    primary key (day, "group", account, algorithm, pool, rule)
);

-- A revision beyond what its collection keeps: hidden first, its bytes go later.
alter table item
    add column retired_at timestamptz;
create index item_retired on item (retired_at) where retired_at is not null;
