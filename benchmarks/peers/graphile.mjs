// The task of graphile-worker: one by one, or claimed and completed in batches. The connection comes from PGHOST and so on.
import { run, runMigrations } from "graphile-worker";
import pg from "pg";

const [, , what, jobs] = process.argv;
const pgPool = new pg.Pool({ max: 10 });
if (what === "submit") {
  await runMigrations({ pgPool });
  await pgPool.query(
    `select graphile_worker.add_jobs(array_agg(('noop', json_build_object('n', n), null, null, null, null, null, null)::graphile_worker.job_spec))
     from generate_series(1, $1) as n group by n / 500`,
    [jobs],
  );
  await pgPool.end();
} else {
  const worker =
    what === "batched"
      ? { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : { concurrentJobs: 24 };
  const logger = { debug() {}, info() {}, warn: console.warn, error: console.error };
  const { Logger } = await import("graphile-worker");
  await run({
    pgPool,
    noHandleSignals: false,
    preset: { worker: { ...worker, logger: new Logger(() => (level, message) => level === "error" && console.error(message)) } },
    taskList: { noop: () => {} },
  });
}
