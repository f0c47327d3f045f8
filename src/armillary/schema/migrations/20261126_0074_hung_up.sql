-- A worker's line was closed from its side, then: as a process that died does it, and need not be waited for like one that is silent.

alter table worker add column hung_up_at timestamptz;
