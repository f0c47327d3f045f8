-- What decides who may run a job, beside CPU, memory and disk.
alter table job_queue
    add column gpu integer not null default 0,
    add column needs_seconds real not null default 0,  -- how long its worker must still be there; 0: it may go at any time
    add column algorithm text not null default '';
update job_queue set algorithm = job.algorithm, needs_seconds = coalesce((job.resources->>'time_seconds')::real, 0)
from job where job.id = job_queue.job_id;

-- How long the jobs of an algorithm take from lease to end: the mean of its last hundred or so, each sampled at its end.
create table pace (
    algorithm   text primary key,
    seconds     double precision not null,
    jobs        bigint not null,                   -- how many it was learned from
    seen_at     timestamptz not null default armillary_now()
);

alter table worker
    add column ends_at timestamptz;                -- when its provider will end it; it drains before
alter table worker_start
    add column options jsonb not null default '{}',-- the provider's, as they were when it was started
    add column state text not null default 'pending' check (state in ('pending', 'running', 'ending')),
    add column running_at timestamptz,             -- since when it is not pending
    add column note text not null default '';      -- what the provider says: why it is pending, say

update worker_start set state = 'running', running_at = started_at where reference is not null;

-- Why a pool is as it is: what its reconciler last wished, and the reason.
alter table pool
    add column wanted integer,
    add column why text not null default '',
    add column decided_at timestamptz;

-- A pool's token registers workers from anywhere; theirs are its children and end with it.
alter table token drop constraint token_purpose_check,
    add constraint token_purpose_check check (purpose in ('api', 'session', 'sign-in', 'worker-start', 'worker', 'pool')),
    add column id uuid,
    add column parent uuid,
    add column title text not null default '',
    add column made_by text not null default '';
create unique index token_id on token (id) where id is not null;
create index token_parent on token (parent) where parent is not null;
create index token_pool on token (pool) where purpose = 'pool';
