-- What attempts left in their folders, kept for people to look at until a time that is known from the start. The row comes
-- before the first byte, so that nothing is left unaccounted for; without a reference to the job, it outlives it.

create table kept_folder (
    job_id      uuid not null,
    number      integer not null,                  -- the attempt
    key         text not null unique,
    files       jsonb not null,                    -- in the order of their bytes: path, size, kept
    is_whole    boolean not null,                  -- whether every file is named
    size_bytes  bigint,                            -- of the object; none while it is being written
    kept_at     timestamptz not null default armillary_now(),
    expires_at  timestamptz not null,
    primary key (job_id, number)
);
create index on kept_folder (expires_at);
