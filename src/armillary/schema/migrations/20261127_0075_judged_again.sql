-- Workers that pause before they are tried once more are judged again, as soon as others have done what they could not.

drop index worker_to_judge;
create index worker_to_judge on worker (trial_at) where trial_at is not null and state = 'live';
