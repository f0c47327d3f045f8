-- The foundation: everything from a file to a delivered product.

-- Time. SQL never asks now(): tests replace this one function.
create function armillary_now() returns timestamptz language sql volatile parallel safe
    return clock_timestamp();

create table instance (
    id          uuid primary key,
    created_at  timestamptz not null default armillary_now(),
    only_one    boolean not null unique default true check (only_one)
);

-- Accounts ------------------------------------------------------------------------------------------------------

create table user_group (
    id          text primary key,
    title       text not null default '',
    created_at  timestamptz not null default armillary_now()
);
create table account (
    id          text primary key,
    "group"     text not null references user_group,
    is_owner    boolean not null default false,
    created_at  timestamptz not null default armillary_now()
);
create table token (
    hash        bytea primary key,                 -- SHA-256 of the token; the token itself is never stored
    account     text not null references account,
    purpose     text not null check (purpose in ('api', 'session', 'sign-in', 'worker-start', 'worker')),
    pool        text,                              -- a worker's token is good for this pool alone
    worker_id   uuid,
    created_at  timestamptz not null default armillary_now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);

-- Events and wakes ----------------------------------------------------------------------------------------------

create table event (
    at          timestamptz not null default armillary_now(),
    subject     text not null,                     -- 'granule:collection/id', 'job:<id>', …
    version     bigint not null,                   -- raised under the subject's lock: this orders events
    kind        text not null,                     -- 'granule.committed', 'job.finished', …
    actor       text not null,
    "group"     text not null,
    detail      jsonb not null default '{}',
    primary key (subject, version, at)
) partition by range (at);
create index event_at on event (at desc);
create index event_kind on event (kind, at desc);

-- Work that must happen because of an event: one claimable row per consumer, made in the event's transaction.
create table subscription (
    kind        text not null,
    consumer    text not null,
    primary key (kind, consumer)
);
create table wake (
    id          bigint generated always as identity primary key,
    consumer    text not null,
    subject     text not null,
    detail      jsonb not null default '{}',
    created_at  timestamptz not null default armillary_now(),
    due_at      timestamptz not null default armillary_now(),
    tries       integer not null default 0,
    error       text
);
create index wake_due on wake (consumer, due_at, id);

create function armillary_emit(subject text, version bigint, kind text, actor text, "group" text, detail jsonb)
    returns void language sql as $$
    insert into event (subject, version, kind, actor, "group", detail)
        values (armillary_emit.subject, armillary_emit.version, armillary_emit.kind, armillary_emit.actor,
                armillary_emit."group", armillary_emit.detail);
    insert into wake (consumer, subject, detail)
        select consumer, armillary_emit.subject, armillary_emit.detail
        from subscription where subscription.kind = armillary_emit.kind;
$$;

-- What only one server may do at a time: it holds the row, and every write it makes checks the epoch.
create table singleton (
    name        text primary key,
    holder      uuid,
    epoch       bigint not null default 0,
    expires_at  timestamptz not null default '-infinity'
);
create table server (
    id          uuid primary key,
    host        text not null,
    pid         integer not null,
    roles       text[] not null,
    version     text not null,
    started_at  timestamptz not null default armillary_now(),
    beat_at     timestamptz not null default armillary_now()
);
-- Since when workers could reach a server without a gap: no lease expires before that has lasted a time to live.
create table reachable (
    only_one    boolean primary key default true check (only_one),
    since       timestamptz not null default armillary_now(),
    beat_at     timestamptz not null default '-infinity'
);
insert into reachable default values;

-- Definitions: what people write in YAML, with its history -------------------------------------------------------

create table definition (
    kind        text not null,
    id          text not null,
    version     bigint not null,
    spec        jsonb not null,
    "group"     text not null references user_group,
    applied_by  text not null,
    applied_at  timestamptz not null default armillary_now(),
    primary key (kind, id, version)
);

create table collection (
    id          text primary key,
    version     bigint not null default 1,
    spec        jsonb not null,
    "group"     text not null references user_group,
    created_at  timestamptz not null default armillary_now(),
    updated_at  timestamptz not null default armillary_now()
);
create unique index collection_folded on collection (lower(id));

-- Granules ------------------------------------------------------------------------------------------------------

create table upload (
    id          uuid primary key,
    collection  text not null references collection,
    granule     text not null,
    prefix      text not null unique,              -- <collection>/<granule>/<upload id>: never used twice
    state       text not null default 'open' check (state in ('open', 'committed', 'abandoned', 'deleted')),
    created_by  text not null,
    "group"     text not null references user_group,
    job_id      uuid,                              -- the attempt that uploads, if one does
    lease       integer,
    created_at  timestamptz not null default armillary_now(),
    expires_at  timestamptz not null,
    ended_at    timestamptz
);
create index upload_open on upload (expires_at) where state in ('open', 'abandoned');
create index upload_job on upload (job_id) where job_id is not null;

-- Narrow and unpartitioned: it holds uniqueness.
create table granule (
    collection  text not null references collection,
    id          text not null,
    revision    integer not null,                  -- the current one
    version     bigint not null,                   -- of the subject, for its events
    primary key (collection, id)
);
create unique index granule_folded on granule (collection, lower(id));

create table item (
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    is_current  boolean not null default true,
    upload_id   uuid not null unique references upload,
    digest      text not null,                     -- SHA-256 over the names, sizes and SHA-256 of its files
    frame       text not null check (frame in ('earth', 'sky', 'none')),
    geometry    jsonb,                             -- GeoJSON, longitude and latitude or right ascension and declination in degrees
    bbox        float8[],
    cells       bigint[] not null default '{}',    -- HEALPix cells of the footprint, with the frame in each
    starts_at   timestamptz,
    ends_at     timestamptz,
    properties  jsonb not null,
    assets      jsonb not null,                    -- name → {key, size, sha256, type, roles, title, files}
    size_bytes  bigint not null,
    "group"     text not null references user_group,
    created_by  text not null,
    created_at  timestamptz not null default armillary_now(),
    superseded_at timestamptz,
    primary key (collection, granule, revision),
    foreign key (collection, granule) references granule (collection, id)
);
create index item_time on item (collection, starts_at desc, granule) where is_current;
create index item_newest on item (starts_at desc, collection, granule) where is_current;
create index item_added on item (created_at desc, collection, granule) where is_current;
create index item_cells on item using gin (cells) where is_current;
create index item_properties on item using gin (properties jsonb_path_ops) where is_current;
create index item_granule on item (granule) where is_current;

-- Algorithms ----------------------------------------------------------------------------------------------------

create table algorithm (
    id          text not null,
    version     text not null,
    version_key integer[] not null,                -- 1.10.0 sorts after 1.9.0
    digest      text not null unique,              -- SHA-256 of the spec and the bundle's digest
    spec        jsonb not null,
    bundle_key  text,                              -- where the bundle of the folder is; null for the built-in ones
    bundle_sha256 text,
    bundle_size bigint,
    environment jsonb not null default '{}',
    "group"     text not null references user_group,
    registered_by text not null,
    registered_at timestamptz not null default armillary_now(),
    primary key (id, version)
);

-- Jobs ----------------------------------------------------------------------------------------------------------

create table job_transition (
    from_state  text not null,
    to_state    text not null,
    primary key (from_state, to_state)
);
insert into job_transition values
    ('held', 'queued'), ('held', 'cancelled'),
    ('queued', 'running'), ('queued', 'cancelled'), ('queued', 'failed'), ('queued', 'held'),
    ('running', 'queued'), ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'),
    ('failed', 'queued'), ('cancelled', 'queued');

create table job (
    id          uuid primary key,
    version     bigint not null default 1,
    algorithm   text not null,
    algorithm_version text not null,
    algorithm_digest  text not null references algorithm (digest),
    parameters  jsonb not null,
    identity    text not null,                     -- what makes two submissions the same work
    twins       text not null check (twins in ('share', 'reuse', 'again')),
    state       text not null check (state in ('held', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    reason      text not null default '',          -- why it is in this state, for a person
    error_class text,
    pool        text not null,
    priority    integer not null default 0,
    resources   jsonb not null,
    failures    integer not null default 0,        -- what counts against the budget; loss and preemption do not
    attempts    integer not null default 0,        -- the number of the last lease
    progress    jsonb not null default '{}',
    result      jsonb,
    cause       jsonb not null default '{}',       -- who or what asked: {rule, firing} or {delivery} or {account}
    "group"     text not null references user_group,
    created_by  text not null,
    created_at  timestamptz not null default armillary_now(),
    started_at  timestamptz,
    ended_at    timestamptz
) with (fillfactor = 70);
-- No index names a column that changes on the way to success: those updates stay within their page. Ids sort by time, so
-- the newest jobs are those of the highest id; what is live is found through job_queue.
create index job_twin on job (identity, id desc);
create index job_algorithm on job (algorithm, id desc);
create index job_failed on job (id desc) where error_class is not null;

create function job_transition_allowed() returns trigger language plpgsql as $$
begin
    if not exists (select from job_transition where from_state = old.state and to_state = new.state) then
        raise exception 'A job that is % cannot become %.', old.state, new.state using errcode = 'check_violation';
    end if;
    return new;
end $$;
create trigger job_transition before update of state on job
    for each row when (old.state is distinct from new.state) execute function job_transition_allowed();

create table job_input (
    job_id      uuid not null references job on delete cascade,
    role        text not null,
    position    integer not null,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    primary key (job_id, role, position)
);
create index job_input_granule on job_input (collection, granule, revision);
create table job_output (
    job_id      uuid not null references job on delete cascade,
    output      text not null,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    primary key (job_id, collection, granule, revision)
);

-- Only what lives (held, queued or leased): small however long the history is.
create table job_queue (
    job_id      uuid primary key references job on delete cascade,
    pool        text not null,                     -- references pool, below
    identity    text not null,
    "group"     text not null,
    is_shared   boolean not null,                  -- an equal submission takes this job instead of making another
    priority    integer not null,
    ready_at    timestamptz not null,              -- 'infinity': held
    cpu         real not null,
    memory_bytes bigint not null,
    disk_bytes  bigint not null,
    lease       integer not null default 0,        -- the number of the last lease given; only its holder may report
    worker_id   uuid,                              -- null: waiting
    leased_at   timestamptz,
    stop        text check (stop in ('cancel', 'preempt'))   -- what its worker is asked to do
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create unique index job_queue_twin on job_queue (identity, "group") where is_shared;
create index job_queue_waiting on job_queue (pool, priority desc, ready_at, job_id) where worker_id is null;
create index job_queue_leased on job_queue (worker_id) where worker_id is not null;

create table attempt (
    job_id      uuid not null,
    number      integer not null,                  -- the lease
    leased_at   timestamptz not null,
    worker_id   uuid not null,
    host        text not null,
    pool        text not null,
    resources   jsonb not null,                    -- as granted: a retry may get more
    started_at  timestamptz,
    ended_at    timestamptz,
    outcome     text check (outcome in ('succeeded', 'failed', 'cancelled', 'lost', 'preempted')),
    error_class text,
    reason      text,
    exit_code   integer,
    usage       jsonb not null default '{}',
    primary key (job_id, number, leased_at)
) partition by range (leased_at);

create function attempt_is_history() returns trigger language plpgsql as $$
begin
    raise exception 'Attempt % of job % has ended; attempts are history and are never rewritten.', old.number, old.job_id
        using errcode = 'check_violation';
end $$;
create trigger attempt_is_history before update or delete on attempt
    for each row when (old.ended_at is not null) execute function attempt_is_history();

create table log_chunk (
    job_id      uuid not null,
    number      integer not null,
    position    bigint not null,                   -- in bytes from the log's beginning
    leased_at   timestamptz not null,              -- of the attempt, so that a repeated chunk is the same row
    data        bytea not null,
    primary key (job_id, number, position, leased_at)
) partition by range (leased_at);

-- The files that an attempt may take up again, saved under the job's upload.
create table checkpoint (
    job_id      uuid primary key references job on delete cascade,
    lease       integer not null,
    key         text not null,
    sha256      text not null,
    size_bytes  bigint not null,
    saved_at    timestamptz not null default armillary_now()
);

-- Provenance ----------------------------------------------------------------------------------------------------

create table activity (
    job_id      uuid not null,
    attempt     integer not null,
    algorithm   text not null,
    algorithm_version text not null,
    algorithm_digest text not null,
    parameters  jsonb not null,
    host        text not null,
    "group"     text not null,
    agent       text not null,
    started_at  timestamptz not null,
    ended_at    timestamptz not null,
    primary key (job_id)
);
create table used (
    job_id      uuid not null references activity,
    role        text not null,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    primary key (job_id, role, collection, granule, revision)
);
create index used_granule on used (collection, granule, revision);
create table generated (
    job_id      uuid not null references activity,
    output      text not null,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    primary key (collection, granule, revision)
);
create index generated_job on generated (job_id);

-- Pools ---------------------------------------------------------------------------------------------------------

create table pool (
    id          text primary key,
    version     bigint not null default 1,
    spec        jsonb not null,
    "group"     text not null references user_group,
    created_at  timestamptz not null default armillary_now()
);
create table worker (
    id          uuid primary key,
    pool        text not null references pool,
    epoch       bigint generated always as identity,
    host        text not null,
    pid         integer,
    protocol    integer not null,
    capacity    jsonb not null,
    state       text not null default 'live' check (state in ('live', 'draining', 'gone')),
    reason      text not null default '',
    registered_at timestamptz not null default armillary_now(),
    beat_at     timestamptz not null default armillary_now(),
    idle_since  timestamptz default armillary_now(),  -- null: it runs something
    drained_at  timestamptz,                       -- since when it takes nothing new
    ended_at    timestamptz
) with (fillfactor = 50);
create index worker_live on worker (pool) where state <> 'gone';
alter table job_queue add constraint job_queue_pool foreign key (pool) references pool;
-- What the provider started for a pool; recorded as it is started, so that a stop works from the record alone.
create table worker_start (
    id          uuid primary key,
    pool        text not null references pool,
    provider    text not null,                     -- who started it, whatever the pool's document says by now
    reference   text,                              -- the provider's name for it (pid, Slurm job, pod); null: about to start
    reason      text not null default '',          -- why it ended
    started_at  timestamptz not null default armillary_now(),
    worker_id   uuid references worker,
    ended_at    timestamptz
);
create index worker_start_live on worker_start (pool) where ended_at is null;
create index worker_start_ended on worker_start (pool, ended_at);

-- Rules ---------------------------------------------------------------------------------------------------------

create table rule (
    id          text primary key,
    version     bigint not null default 1,
    spec        jsonb not null,
    enabled     boolean not null default true,
    collections text[] not null,                   -- the collections that its roles name
    "group"     text not null references user_group,
    created_by  text not null,
    created_at  timestamptz not null default armillary_now()
);
-- A granule that may complete firings of one rule: one transaction each.
create table rule_wake (
    id          bigint generated always as identity primary key,
    rule        text not null references rule on delete cascade,
    collection  text not null,
    granule     text not null,
    created_at  timestamptz not null default armillary_now(),
    due_at      timestamptz not null default armillary_now(),
    tries       integer not null default 0,
    error       text
);
create index rule_wake_due on rule_wake (due_at, id);
create table firing (
    id          uuid primary key,
    rule        text not null,
    rule_version bigint not null,
    key         text not null,                     -- digest of the granules bound to the single roles
    version     bigint not null default 1,
    state       text not null check (state in ('waiting', 'submitted', 'refused', 'expired')),
    reason      text not null default '',
    due_at      timestamptz,
    job_id      uuid references job,
    missing     text[] not null default '{}',      -- roles that it went on without, or still waits for
    late        jsonb not null default '[]',       -- what came for them after it had gone on
    "group"     text not null,
    created_at  timestamptz not null default armillary_now(),
    submitted_at timestamptz,
    unique (rule, key)
);
create index firing_waiting on firing (rule) where state = 'waiting';
create index firing_due on firing (due_at) where state = 'waiting';
create index firing_incomplete on firing (rule) where state = 'submitted' and missing <> '{}';
create index firing_newest on firing (created_at desc);
create index firing_job on firing (job_id);
create table firing_role (
    firing      uuid not null references firing on delete cascade,
    role        text not null,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    primary key (firing, role, collection, granule)
);
create index firing_role_granule on firing_role (collection, granule);
create table rule_timer (
    rule        text primary key references rule on delete cascade,
    next_at     timestamptz not null
);

-- Deliveries ----------------------------------------------------------------------------------------------------

create table destination (
    id          text primary key,
    version     bigint not null default 1,
    spec        jsonb not null,
    "group"     text not null references user_group,
    created_at  timestamptz not null default armillary_now()
);
create table delivery (
    id          uuid primary key,
    version     bigint not null default 1,
    destination text not null references destination,
    collection  text not null,
    granule     text not null,
    revision    integer not null,
    state       text not null check (state in ('intended', 'sent', 'acknowledged', 'rejected', 'failed')),
    reason      text not null default '',
    job_id      uuid references job,
    sent        jsonb not null default '{}',       -- what went where, with the checksums read at the far side
    receipt     jsonb,                             -- the archive's answer, as it came
    "group"     text not null,
    created_by  text not null,
    created_at  timestamptz not null default armillary_now(),
    sent_at     timestamptz,
    acknowledged_at timestamptz,
    unique (destination, collection, granule, revision)
);
create index delivery_open on delivery (created_at) where state in ('intended', 'sent', 'failed');
create index delivery_job on delivery (job_id);
create index delivery_granule on delivery (collection, granule);

insert into subscription values
    ('granule.committed', 'rules'),
    ('job.finished', 'deliveries');

-- Months --------------------------------------------------------------------------------------------------------

-- Make the partitions from last month to `ahead` months from now; retention drops old ones whole.
create function armillary_partitions(ahead integer default 3) returns void language plpgsql as $$
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
                end if;
            end if;
        end loop;
    end loop;
end $$;
select armillary_partitions();
