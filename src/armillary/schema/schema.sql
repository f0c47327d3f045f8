CREATE FUNCTION public.armillary_emit(subject text, version bigint, kind text, actor text, "group" text, detail jsonb) RETURNS void
    LANGUAGE sql
    AS $$
    insert into event (subject, version, kind, actor, "group", detail)
        values (armillary_emit.subject, armillary_emit.version, armillary_emit.kind, armillary_emit.actor,
                armillary_emit."group", armillary_emit.detail);
    insert into wake (consumer, subject, detail)
        select consumer, armillary_emit.subject, armillary_emit.detail
        from subscription
        where subscription.kind = armillary_emit.kind and armillary_emit.detail @> subscription.detail;
$$;

CREATE FUNCTION public.armillary_emit_all(subjects text[], versions bigint[], kinds text[], actors text[], groups text[], details jsonb[]) RETURNS bigint
    LANGUAGE sql
    AS $$
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

CREATE FUNCTION public.armillary_findings() RETURNS TABLE(sweep text, severity text, open bigint)
    LANGUAGE sql STABLE
    AS $$
    select known.name, level.severity, count(finding.id)
    from sweep as known
        cross join unnest(array['notice', 'warning', 'error']) as level (severity)
        left join finding on finding.sweep = known.name and finding.severity = level.severity
            and finding.closed_at is null
    group by known.name, level.severity
$$;

CREATE FUNCTION public.armillary_now() RETURNS timestamp with time zone
    LANGUAGE sql PARALLEL SAFE
    RETURN clock_timestamp();

CREATE FUNCTION public.armillary_partitions(ahead integer DEFAULT 3) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.attempt_is_history() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    raise exception 'Attempt % of job % has ended; attempts are history and are never rewritten.', old.number, old.job_id
        using errcode = 'check_violation';
end $$;

CREATE FUNCTION public.job_transition_allowed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    if not exists (select from job_transition where from_state = old.state and to_state = new.state) then
        raise exception 'A job that is % cannot become %.', old.state, new.state using errcode = 'check_violation';
    end if;
    return new;
end $$;

CREATE TABLE public.account (
    id text NOT NULL,
    "group" text NOT NULL,
    is_owner boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.activity (
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    algorithm text NOT NULL,
    algorithm_version text NOT NULL,
    algorithm_digest text NOT NULL,
    parameters jsonb NOT NULL,
    host text NOT NULL,
    "group" text NOT NULL,
    agent text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone NOT NULL
);

CREATE TABLE public.algorithm (
    id text NOT NULL,
    version text NOT NULL,
    version_key integer[] NOT NULL,
    digest text NOT NULL,
    spec jsonb NOT NULL,
    bundle_key text,
    bundle_sha256 text,
    bundle_size bigint,
    environment jsonb DEFAULT '{}'::jsonb NOT NULL,
    "group" text NOT NULL,
    registered_by text NOT NULL,
    registered_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.algorithm_pause (
    digest text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    is_paused boolean DEFAULT true NOT NULL,
    reason text NOT NULL,
    paused_by text NOT NULL,
    paused_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.attempt (
    job_id uuid NOT NULL,
    number integer NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    worker_id uuid NOT NULL,
    host text NOT NULL,
    pool text NOT NULL,
    resources jsonb NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    outcome text,
    error_class text,
    reason text,
    exit_code integer,
    usage jsonb DEFAULT '{}'::jsonb NOT NULL,
    cost_per_hour double precision,
    cost double precision,
    CONSTRAINT attempt_outcome_check CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'lost'::text, 'preempted'::text])))
)
PARTITION BY RANGE (leased_at);

CREATE TABLE public.checkpoint (
    job_id uuid NOT NULL,
    lease integer NOT NULL,
    key text NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    saved_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.collection (
    id text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    "group" text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    updated_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.definition (
    kind text NOT NULL,
    id text NOT NULL,
    version bigint NOT NULL,
    spec jsonb NOT NULL,
    "group" text NOT NULL,
    applied_by text NOT NULL,
    applied_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.delivery (
    id uuid NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    destination text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL,
    state text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    job_id uuid,
    sent jsonb DEFAULT '{}'::jsonb NOT NULL,
    receipt jsonb,
    "group" text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    sent_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    CONSTRAINT delivery_state_check CHECK ((state = ANY (ARRAY['intended'::text, 'sent'::text, 'acknowledged'::text, 'rejected'::text, 'failed'::text])))
);

CREATE TABLE public.destination (
    id text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    "group" text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.event (
    at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    subject text NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    "group" text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
)
PARTITION BY RANGE (at);

CREATE TABLE public.finding (
    id uuid NOT NULL,
    sweep text NOT NULL,
    subject text NOT NULL,
    severity text NOT NULL,
    reason text NOT NULL,
    action text DEFAULT ''::text NOT NULL,
    remedy text DEFAULT ''::text NOT NULL,
    "group" text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    opened_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    seen_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    closed_at timestamp with time zone,
    CONSTRAINT finding_severity_check CHECK ((severity = ANY (ARRAY['notice'::text, 'warning'::text, 'error'::text])))
);

CREATE TABLE public.firing (
    id uuid NOT NULL,
    rule text NOT NULL,
    rule_version bigint NOT NULL,
    key text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    state text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    due_at timestamp with time zone,
    job_id uuid,
    missing text[] DEFAULT '{}'::text[] NOT NULL,
    late jsonb DEFAULT '[]'::jsonb NOT NULL,
    "group" text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    submitted_at timestamp with time zone,
    outcome text,
    CONSTRAINT firing_outcome_check CHECK ((outcome = ANY (ARRAY['submitted'::text, 'shared'::text, 'reused'::text]))),
    CONSTRAINT firing_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'submitted'::text, 'refused'::text, 'expired'::text])))
);

CREATE TABLE public.firing_role (
    firing uuid NOT NULL,
    role text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL
);

CREATE TABLE public.generated (
    job_id uuid NOT NULL,
    output text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL
);

CREATE TABLE public.granule (
    collection text NOT NULL,
    id text NOT NULL,
    revision integer NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE public.history_reader (
    name text NOT NULL,
    read_until timestamp with time zone NOT NULL
);

CREATE TABLE public.instance (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    only_one boolean DEFAULT true NOT NULL,
    CONSTRAINT instance_only_one_check CHECK (only_one)
);

CREATE TABLE public.item (
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL,
    is_current boolean DEFAULT true NOT NULL,
    upload_id uuid NOT NULL,
    digest text NOT NULL,
    frame text NOT NULL,
    geometry jsonb,
    bbox double precision[],
    cells bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone,
    properties jsonb NOT NULL,
    assets jsonb NOT NULL,
    size_bytes bigint NOT NULL,
    "group" text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    superseded_at timestamp with time zone,
    retired_at timestamp with time zone,
    discarded_at timestamp with time zone,
    CONSTRAINT item_frame_check CHECK ((frame = ANY (ARRAY['earth'::text, 'sky'::text, 'none'::text])))
);

CREATE TABLE public.job (
    id uuid NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    algorithm text NOT NULL,
    algorithm_version text NOT NULL,
    algorithm_digest text NOT NULL,
    parameters jsonb NOT NULL,
    identity text NOT NULL,
    twins text NOT NULL,
    state text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    error_class text,
    pool text NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    resources jsonb NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    progress jsonb DEFAULT '{}'::jsonb NOT NULL,
    result jsonb,
    cause jsonb DEFAULT '{}'::jsonb NOT NULL,
    "group" text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    deadline_at timestamp with time zone,
    on_deadline text DEFAULT 'fail'::text NOT NULL,
    CONSTRAINT job_on_deadline_check CHECK ((on_deadline = ANY (ARRAY['fail'::text, 'warn'::text]))),
    CONSTRAINT job_state_check CHECK ((state = ANY (ARRAY['held'::text, 'queued'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT job_twins_check CHECK ((twins = ANY (ARRAY['share'::text, 'reuse'::text, 'again'::text])))
)
WITH (fillfactor='50');

CREATE TABLE public.job_dependency (
    job_id uuid NOT NULL,
    after_id uuid NOT NULL,
    on_failure text NOT NULL,
    is_met boolean DEFAULT false NOT NULL,
    CONSTRAINT job_dependency_on_failure_check CHECK ((on_failure = ANY (ARRAY['cancel'::text, 'hold'::text, 'run'::text])))
);

CREATE TABLE public.job_input (
    job_id uuid NOT NULL,
    role text NOT NULL,
    "position" integer NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL
);

CREATE TABLE public.job_ledger (
    day date NOT NULL,
    "group" text NOT NULL,
    account text NOT NULL,
    algorithm text NOT NULL,
    pool text NOT NULL,
    rule text DEFAULT ''::text NOT NULL,
    attempts bigint NOT NULL,
    seconds double precision NOT NULL,
    cost double precision NOT NULL
);

CREATE TABLE public.job_operation (
    id uuid NOT NULL,
    verb text NOT NULL,
    selection jsonb NOT NULL,
    arguments jsonb DEFAULT '{}'::jsonb NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    actor text NOT NULL,
    "group" text NOT NULL,
    jobs integer NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    undone_at timestamp with time zone,
    undone_by text,
    restored integer,
    CONSTRAINT job_operation_verb_check CHECK ((verb = ANY (ARRAY['cancel'::text, 'retry'::text, 'hold'::text, 'release'::text, 'priority'::text, 'move'::text, 'purge'::text])))
);

CREATE TABLE public.job_operation_job (
    operation uuid NOT NULL,
    job_id uuid NOT NULL,
    former jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE public.job_output (
    job_id uuid NOT NULL,
    output text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL
);

CREATE TABLE public.job_queue (
    job_id uuid NOT NULL,
    pool text NOT NULL,
    identity text NOT NULL,
    "group" text NOT NULL,
    is_shared boolean NOT NULL,
    priority integer NOT NULL,
    ready_at timestamp with time zone NOT NULL,
    cpu real NOT NULL,
    memory_bytes bigint NOT NULL,
    disk_bytes bigint NOT NULL,
    lease integer DEFAULT 0 NOT NULL,
    worker_id uuid,
    leased_at timestamp with time zone,
    stop text,
    is_held boolean DEFAULT false NOT NULL,
    waits integer DEFAULT 0 NOT NULL,
    deadline_at timestamp with time zone,
    is_paused boolean DEFAULT false NOT NULL,
    gpu integer DEFAULT 0 NOT NULL,
    needs_seconds real DEFAULT 0 NOT NULL,
    algorithm text DEFAULT ''::text NOT NULL,
    CONSTRAINT job_queue_stop_check CHECK ((stop = ANY (ARRAY['cancel'::text, 'preempt'::text, 'deadline'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_cost_delay='0');

CREATE TABLE public.job_transition (
    from_state text NOT NULL,
    to_state text NOT NULL
);

CREATE TABLE public.kept_folder (
    job_id uuid NOT NULL,
    number integer NOT NULL,
    key text NOT NULL,
    files jsonb NOT NULL,
    is_whole boolean NOT NULL,
    size_bytes bigint,
    kept_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE public.log_chunk (
    job_id uuid NOT NULL,
    number integer NOT NULL,
    "position" bigint NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    data bytea NOT NULL
)
PARTITION BY RANGE (leased_at);

CREATE TABLE public.machine (
    pool text NOT NULL,
    host text NOT NULL,
    measured jsonb NOT NULL,
    at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.migration (
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.pace (
    algorithm text NOT NULL,
    seconds double precision NOT NULL,
    jobs bigint NOT NULL,
    seen_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.pool (
    id text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    "group" text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    wanted integer,
    why text DEFAULT ''::text NOT NULL,
    decided_at timestamp with time zone,
    size jsonb
);

CREATE TABLE public.reachable (
    only_one boolean DEFAULT true NOT NULL,
    since timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    beat_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT reachable_only_one_check CHECK (only_one)
);

CREATE TABLE public.rule (
    id text NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    spec jsonb NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    collections text[] NOT NULL,
    "group" text NOT NULL,
    created_by text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.rule_timer (
    rule text NOT NULL,
    next_at timestamp with time zone NOT NULL
);

CREATE TABLE public.rule_wake (
    id bigint NOT NULL,
    rule text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    due_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    error text
);

ALTER TABLE public.rule_wake ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rule_wake_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.server (
    id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    roles text[] NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    beat_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    told jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE public.singleton (
    name text NOT NULL,
    holder uuid,
    epoch bigint DEFAULT 0 NOT NULL,
    expires_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);

CREATE TABLE public.subscription (
    kind text NOT NULL,
    consumer text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE public.sweep (
    name text NOT NULL,
    ran_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    seconds double precision NOT NULL,
    error text DEFAULT ''::text NOT NULL
);

CREATE TABLE public.tally (
    metric text NOT NULL,
    labels text[] NOT NULL,
    bucket integer DEFAULT 0 NOT NULL,
    count bigint NOT NULL,
    total double precision NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.token (
    hash bytea NOT NULL,
    account text NOT NULL,
    purpose text NOT NULL,
    pool text,
    worker_id uuid,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    id uuid,
    parent uuid,
    title text DEFAULT ''::text NOT NULL,
    made_by text DEFAULT ''::text NOT NULL,
    CONSTRAINT token_purpose_check CHECK ((purpose = ANY (ARRAY['api'::text, 'session'::text, 'sign-in'::text, 'worker-start'::text, 'worker'::text, 'pool'::text, 'metrics'::text])))
);

CREATE TABLE public.upload (
    id uuid NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    prefix text NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    created_by text NOT NULL,
    "group" text NOT NULL,
    job_id uuid,
    lease integer,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT upload_state_check CHECK ((state = ANY (ARRAY['open'::text, 'committed'::text, 'abandoned'::text, 'deleted'::text])))
);

CREATE TABLE public.used (
    job_id uuid NOT NULL,
    role text NOT NULL,
    collection text NOT NULL,
    granule text NOT NULL,
    revision integer NOT NULL
);

CREATE TABLE public.user_group (
    id text NOT NULL,
    title text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL
);

CREATE TABLE public.wake (
    id bigint NOT NULL,
    consumer text NOT NULL,
    subject text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    due_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    error text
);

ALTER TABLE public.wake ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.wake_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.worker (
    id uuid NOT NULL,
    pool text NOT NULL,
    epoch bigint NOT NULL,
    host text NOT NULL,
    pid integer,
    protocol integer NOT NULL,
    capacity jsonb NOT NULL,
    state text DEFAULT 'live'::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    registered_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    beat_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    idle_since timestamp with time zone DEFAULT public.armillary_now(),
    drained_at timestamp with time zone,
    ended_at timestamp with time zone,
    silent_after interval DEFAULT '00:00:00'::interval NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    streak jsonb DEFAULT '[]'::jsonb NOT NULL,
    record jsonb DEFAULT '{}'::jsonb NOT NULL,
    trial_at timestamp with time zone,
    ends_at timestamp with time zone,
    lost_jobs integer,
    hung_up_at timestamp with time zone,
    reserved_for uuid,
    CONSTRAINT worker_state_check CHECK ((state = ANY (ARRAY['live'::text, 'draining'::text, 'quarantined'::text, 'gone'::text])))
)
WITH (fillfactor='50');

ALTER TABLE public.worker ALTER COLUMN epoch ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.worker_epoch_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.worker_start (
    id uuid NOT NULL,
    pool text NOT NULL,
    provider text NOT NULL,
    reference text,
    reason text DEFAULT ''::text NOT NULL,
    started_at timestamp with time zone DEFAULT public.armillary_now() NOT NULL,
    worker_id uuid,
    ended_at timestamp with time zone,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    running_at timestamp with time zone,
    note text DEFAULT ''::text NOT NULL,
    CONSTRAINT worker_start_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'ending'::text])))
);

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.activity
    ADD CONSTRAINT activity_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY public.algorithm
    ADD CONSTRAINT algorithm_digest_key UNIQUE (digest);

ALTER TABLE ONLY public.algorithm_pause
    ADD CONSTRAINT algorithm_pause_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY public.algorithm
    ADD CONSTRAINT algorithm_pkey PRIMARY KEY (id, version);

ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (job_id, number, leased_at);

ALTER TABLE ONLY public.checkpoint
    ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY public.collection
    ADD CONSTRAINT collection_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.definition
    ADD CONSTRAINT definition_pkey PRIMARY KEY (kind, id, version);

ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_destination_collection_granule_revision_key UNIQUE (destination, collection, granule, revision);

ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.destination
    ADD CONSTRAINT destination_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.finding
    ADD CONSTRAINT finding_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.firing
    ADD CONSTRAINT firing_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.firing_role
    ADD CONSTRAINT firing_role_pkey PRIMARY KEY (firing, role, collection, granule);

ALTER TABLE ONLY public.firing
    ADD CONSTRAINT firing_rule_key_key UNIQUE (rule, key);

ALTER TABLE ONLY public.generated
    ADD CONSTRAINT generated_pkey PRIMARY KEY (collection, granule, revision);

ALTER TABLE ONLY public.granule
    ADD CONSTRAINT granule_pkey PRIMARY KEY (collection, id);

ALTER TABLE ONLY public.history_reader
    ADD CONSTRAINT history_reader_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_only_one_key UNIQUE (only_one);

ALTER TABLE ONLY public.instance
    ADD CONSTRAINT instance_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.item
    ADD CONSTRAINT item_pkey PRIMARY KEY (collection, granule, revision);

ALTER TABLE ONLY public.item
    ADD CONSTRAINT item_upload_id_key UNIQUE (upload_id);

ALTER TABLE ONLY public.job_dependency
    ADD CONSTRAINT job_dependency_pkey PRIMARY KEY (job_id, after_id);

ALTER TABLE ONLY public.job_input
    ADD CONSTRAINT job_input_pkey PRIMARY KEY (job_id, role, "position");

ALTER TABLE ONLY public.job_ledger
    ADD CONSTRAINT job_ledger_pkey PRIMARY KEY (day, "group", account, algorithm, pool, rule);

ALTER TABLE ONLY public.job_operation_job
    ADD CONSTRAINT job_operation_job_pkey PRIMARY KEY (operation, job_id);

ALTER TABLE ONLY public.job_operation
    ADD CONSTRAINT job_operation_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.job_output
    ADD CONSTRAINT job_output_pkey PRIMARY KEY (job_id, collection, granule, revision);

ALTER TABLE ONLY public.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.job_queue
    ADD CONSTRAINT job_queue_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY public.job_transition
    ADD CONSTRAINT job_transition_pkey PRIMARY KEY (from_state, to_state);

ALTER TABLE ONLY public.kept_folder
    ADD CONSTRAINT kept_folder_key_key UNIQUE (key);

ALTER TABLE ONLY public.kept_folder
    ADD CONSTRAINT kept_folder_pkey PRIMARY KEY (job_id, number);

ALTER TABLE ONLY public.log_chunk
    ADD CONSTRAINT log_chunk_pkey PRIMARY KEY (job_id, number, "position", leased_at);

ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_pkey PRIMARY KEY (pool, host);

ALTER TABLE ONLY public.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.pace
    ADD CONSTRAINT pace_pkey PRIMARY KEY (algorithm);

ALTER TABLE ONLY public.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.reachable
    ADD CONSTRAINT reachable_pkey PRIMARY KEY (only_one);

ALTER TABLE ONLY public.rule
    ADD CONSTRAINT rule_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.rule_timer
    ADD CONSTRAINT rule_timer_pkey PRIMARY KEY (rule);

ALTER TABLE ONLY public.rule_wake
    ADD CONSTRAINT rule_wake_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.server
    ADD CONSTRAINT server_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.singleton
    ADD CONSTRAINT singleton_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.subscription
    ADD CONSTRAINT subscription_pkey PRIMARY KEY (kind, consumer);

ALTER TABLE ONLY public.sweep
    ADD CONSTRAINT sweep_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.tally
    ADD CONSTRAINT tally_pkey PRIMARY KEY (metric, labels, bucket);

ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (hash);

ALTER TABLE ONLY public.upload
    ADD CONSTRAINT upload_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.upload
    ADD CONSTRAINT upload_prefix_key UNIQUE (prefix);

ALTER TABLE ONLY public.used
    ADD CONSTRAINT used_pkey PRIMARY KEY (job_id, role, collection, granule, revision);

ALTER TABLE ONLY public.user_group
    ADD CONSTRAINT user_group_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.wake
    ADD CONSTRAINT wake_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.worker_start
    ADD CONSTRAINT worker_start_pkey PRIMARY KEY (id);

CREATE UNIQUE INDEX collection_folded ON public.collection USING btree (lower(id));

CREATE INDEX delivery_granule ON public.delivery USING btree (collection, granule);

CREATE INDEX delivery_job ON public.delivery USING btree (job_id);

CREATE INDEX delivery_open ON public.delivery USING btree (created_at) WHERE (state = ANY (ARRAY['intended'::text, 'sent'::text, 'failed'::text]));

CREATE INDEX event_at ON ONLY public.event USING btree (at DESC);

CREATE INDEX event_kind ON ONLY public.event USING btree (kind, at DESC);

CREATE INDEX finding_closed ON public.finding USING btree (closed_at) WHERE (closed_at IS NOT NULL);

CREATE UNIQUE INDEX finding_open ON public.finding USING btree (sweep, subject) WHERE (closed_at IS NULL);

CREATE INDEX firing_due ON public.firing USING btree (due_at) WHERE (state = 'waiting'::text);

CREATE INDEX firing_incomplete ON public.firing USING btree (rule) WHERE ((state = 'submitted'::text) AND (missing <> '{}'::text[]));

CREATE INDEX firing_job ON public.firing USING btree (job_id);

CREATE INDEX firing_newest ON public.firing USING btree (created_at DESC);

CREATE INDEX firing_role_granule ON public.firing_role USING btree (collection, granule);

CREATE INDEX firing_waiting ON public.firing USING btree (rule) WHERE (state = 'waiting'::text);

CREATE INDEX generated_job ON public.generated USING btree (job_id);

CREATE UNIQUE INDEX granule_folded ON public.granule USING btree (collection, lower(id));

CREATE INDEX item_added ON public.item USING btree (created_at DESC, collection, granule) WHERE is_current;

CREATE INDEX item_cells ON public.item USING gin (cells) WHERE is_current;

CREATE INDEX item_granule ON public.item USING btree (granule) WHERE is_current;

CREATE INDEX item_newest ON public.item USING btree (starts_at DESC, collection, granule) WHERE is_current;

CREATE INDEX item_properties ON public.item USING gin (properties jsonb_path_ops) WHERE is_current;

CREATE INDEX item_retired ON public.item USING btree (collection, granule, revision) WHERE ((retired_at IS NOT NULL) AND (discarded_at IS NULL));

CREATE INDEX item_superseded ON public.item USING btree (collection, granule, revision) WHERE ((NOT is_current) AND (retired_at IS NULL));

CREATE INDEX item_time ON public.item USING btree (collection, starts_at DESC, granule) WHERE is_current;

CREATE INDEX job_algorithm ON public.job USING btree (algorithm, id DESC);

CREATE INDEX job_dependency_open ON public.job_dependency USING btree (after_id) WHERE (NOT is_met);

CREATE INDEX job_failed ON public.job USING btree (id DESC) WHERE (error_class IS NOT NULL);

CREATE INDEX job_input_granule ON public.job_input USING btree (collection, granule, revision);

CREATE INDEX job_queue_deadline ON public.job_queue USING btree (deadline_at) WHERE (deadline_at IS NOT NULL);

CREATE INDEX job_queue_leased ON public.job_queue USING btree (worker_id) WHERE (worker_id IS NOT NULL);

CREATE UNIQUE INDEX job_queue_twin ON public.job_queue USING btree (identity, "group") WHERE is_shared;

CREATE INDEX job_queue_waiting ON public.job_queue USING btree (pool, priority DESC, ready_at, job_id) WHERE (worker_id IS NULL);

CREATE INDEX job_twin ON public.job USING btree (identity, id DESC);

CREATE INDEX kept_folder_expires_at_idx ON public.kept_folder USING btree (expires_at);

CREATE INDEX rule_wake_due ON public.rule_wake USING btree (due_at, id);

CREATE UNIQUE INDEX token_id ON public.token USING btree (id) WHERE (id IS NOT NULL);

CREATE INDEX token_parent ON public.token USING btree (parent) WHERE (parent IS NOT NULL);

CREATE INDEX token_pool ON public.token USING btree (pool) WHERE (purpose = 'pool'::text);

CREATE INDEX upload_job ON public.upload USING btree (job_id) WHERE (job_id IS NOT NULL);

CREATE INDEX upload_open ON public.upload USING btree (expires_at) WHERE (state = ANY (ARRAY['open'::text, 'abandoned'::text]));

CREATE INDEX used_granule ON public.used USING btree (collection, granule, revision);

CREATE INDEX wake_due ON public.wake USING btree (consumer, due_at, id);

CREATE INDEX worker_live ON public.worker USING btree (pool) WHERE (state <> 'gone'::text);

CREATE INDEX worker_lost ON public.worker USING btree (ended_at) WHERE (lost_jobs IS NOT NULL);

CREATE INDEX worker_reserved ON public.worker USING btree (id) WHERE (reserved_for IS NOT NULL);

CREATE INDEX worker_start_ended ON public.worker_start USING btree (pool, ended_at);

CREATE INDEX worker_start_live ON public.worker_start USING btree (pool) WHERE (ended_at IS NULL);

CREATE INDEX worker_to_judge ON public.worker USING btree (trial_at) WHERE ((trial_at IS NOT NULL) AND (state = 'live'::text));

CREATE TRIGGER attempt_is_history BEFORE DELETE OR UPDATE ON public.attempt FOR EACH ROW WHEN ((old.ended_at IS NOT NULL)) EXECUTE FUNCTION public.attempt_is_history();

CREATE TRIGGER job_transition BEFORE UPDATE OF state ON public.job FOR EACH ROW WHEN (((old.state IS DISTINCT FROM new.state) AND (NOT ((old.state = 'queued'::text) AND (new.state = 'running'::text))) AND (NOT ((old.state = 'running'::text) AND (new.state = 'succeeded'::text))))) EXECUTE FUNCTION public.job_transition_allowed();

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.algorithm
    ADD CONSTRAINT algorithm_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.algorithm_pause
    ADD CONSTRAINT algorithm_pause_digest_fkey FOREIGN KEY (digest) REFERENCES public.algorithm(digest);

ALTER TABLE ONLY public.checkpoint
    ADD CONSTRAINT checkpoint_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.collection
    ADD CONSTRAINT collection_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.definition
    ADD CONSTRAINT definition_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.delivery
    ADD CONSTRAINT delivery_destination_fkey FOREIGN KEY (destination) REFERENCES public.destination(id);

ALTER TABLE ONLY public.destination
    ADD CONSTRAINT destination_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.finding
    ADD CONSTRAINT finding_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.firing_role
    ADD CONSTRAINT firing_role_firing_fkey FOREIGN KEY (firing) REFERENCES public.firing(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.generated
    ADD CONSTRAINT generated_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.activity(job_id);

ALTER TABLE ONLY public.granule
    ADD CONSTRAINT granule_collection_fkey FOREIGN KEY (collection) REFERENCES public.collection(id);

ALTER TABLE ONLY public.item
    ADD CONSTRAINT item_collection_granule_fkey FOREIGN KEY (collection, granule) REFERENCES public.granule(collection, id);

ALTER TABLE ONLY public.item
    ADD CONSTRAINT item_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.item
    ADD CONSTRAINT item_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES public.upload(id);

ALTER TABLE ONLY public.job
    ADD CONSTRAINT job_algorithm_digest_fkey FOREIGN KEY (algorithm_digest) REFERENCES public.algorithm(digest);

ALTER TABLE ONLY public.job_dependency
    ADD CONSTRAINT job_dependency_after_id_fkey FOREIGN KEY (after_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_dependency
    ADD CONSTRAINT job_dependency_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job
    ADD CONSTRAINT job_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.job_input
    ADD CONSTRAINT job_input_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_operation
    ADD CONSTRAINT job_operation_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.job_operation_job
    ADD CONSTRAINT job_operation_job_operation_fkey FOREIGN KEY (operation) REFERENCES public.job_operation(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_output
    ADD CONSTRAINT job_output_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_queue
    ADD CONSTRAINT job_queue_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.job(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.job_queue
    ADD CONSTRAINT job_queue_pool FOREIGN KEY (pool) REFERENCES public.pool(id);

ALTER TABLE ONLY public.machine
    ADD CONSTRAINT machine_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.pool
    ADD CONSTRAINT pool_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.rule
    ADD CONSTRAINT rule_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.rule_timer
    ADD CONSTRAINT rule_timer_rule_fkey FOREIGN KEY (rule) REFERENCES public.rule(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.rule_wake
    ADD CONSTRAINT rule_wake_rule_fkey FOREIGN KEY (rule) REFERENCES public.rule(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_account_fkey FOREIGN KEY (account) REFERENCES public.account(id);

ALTER TABLE ONLY public.upload
    ADD CONSTRAINT upload_collection_fkey FOREIGN KEY (collection) REFERENCES public.collection(id);

ALTER TABLE ONLY public.upload
    ADD CONSTRAINT upload_group_fkey FOREIGN KEY ("group") REFERENCES public.user_group(id);

ALTER TABLE ONLY public.used
    ADD CONSTRAINT used_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.activity(job_id);

ALTER TABLE ONLY public.worker
    ADD CONSTRAINT worker_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(id);

ALTER TABLE ONLY public.worker_start
    ADD CONSTRAINT worker_start_pool_fkey FOREIGN KEY (pool) REFERENCES public.pool(id);

ALTER TABLE ONLY public.worker_start
    ADD CONSTRAINT worker_start_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES public.worker(id);
