-- What a firing's submission came to: a job of its own, or one that did or does the same work already.
alter table firing add column outcome text check (outcome in ('submitted', 'shared', 'reused'));
