import type { CloudLog } from "../cloud/contract/cloud-log.ts";

/** No log: what was taken from agents is all that is kept of a container's output. */
export const noLog: CloudLog = {
  isKept: false,
  async *lines() {},
  async *agentLines() {},
};
