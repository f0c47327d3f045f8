-- Workers that fail where others succeed are set apart; algorithms that fail everywhere are paused.

alter table worker drop constraint worker_state_check;
alter table worker add constraint worker_state_check check (state in ('live', 'draining', 'quarantined', 'gone'));

alter table worker add column version bigint not null default 1;
update worker set version = 2 where state = 'gone';
-- The failures since its last success, and how often each algorithm went well and badly here lately.
alter table worker add column streak jsonb not null default '[]';
alter table worker add column record jsonb not null default '{}';
-- It is given nothing until then; 'infinity' until somebody has judged its failures.
alter table worker add column trial_at timestamptz;
create index worker_to_judge on worker (id) where trial_at = 'infinity' and state = 'live';

create table algorithm_pause (
    digest text primary key references algorithm (digest),
    version bigint not null default 1,
    is_paused boolean not null default true,
    reason text not null,
    paused_by text not null,
    paused_at timestamptz not null default armillary_now()
);
alter table job_queue add column is_paused boolean not null default false;
