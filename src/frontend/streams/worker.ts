/** The module that the pool loads in each worker thread. */
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { forRequest } from "../../common/request-id.ts";
import { BufferSupply } from "./output-buffers.ts";
import type { StreamTask } from "./thread-messages.ts";
import { runStream } from "./worker-stream.ts";

/** Free buffers that a thread keeps, 8 MiB in all: enough for streams at full speed. */
const freeBuffers = 32;

/** Bytes for the output of all streams of a thread: unread from agents, and in flight to clients. */
const budgets = { windows: 32 * 1024 * 1024, output: 32 * 1024 * 1024 };

const resources = {
  connections: new ConnectionPool(new ByteBudget(budgets.windows)),
  supply: new BufferSupply(freeBuffers, new ByteBudget(budgets.output)),
};

/** Runs one stream to its end. A thread runs thousands at once, as they mostly wait. */
export function serveStream(task: StreamTask): Promise<void> {
  return forRequest(task.requestId, () => runStream(task, resources));
}
