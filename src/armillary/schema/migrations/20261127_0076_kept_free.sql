-- A worker that takes nothing but this job until it fits: smaller ones would pass it by for ever.

alter table worker add column reserved_for uuid;
create index worker_reserved on worker (id) where reserved_for is not null;
