-- Retention: a revision is first retired, which hides it and can be taken back, and then its bytes are given up.
alter table item add column discarded_at timestamptz;  -- since when its bytes are given up; the row stays as history
create index item_superseded on item (collection, granule, revision) where not is_current and retired_at is null;
drop index item_retired;
create index item_retired on item (collection, granule, revision) where retired_at is not null and discarded_at is null;
