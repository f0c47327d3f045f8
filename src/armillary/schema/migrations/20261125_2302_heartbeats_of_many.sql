-- Workers of a large fleet beat less often. What a worker was told holds for it, also when the fleet shrinks meanwhile.

alter table worker add column silent_after interval not null default '0';
