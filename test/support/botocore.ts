/** Judges requests by the service models of botocore, with botocore's own code and none of the simulator's. */
import { join } from "node:path";

import { runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";
import { findPipPackages, pythonEnv } from "./pip-packages.ts";
import type { RecordedRequest } from "./recording-proxy.ts";

const folder = join(checkout, "test/programs/botocore");

/** A request, with the models' verdict on it. */
export interface JudgedRequest {
  readonly service: string;
  /** `json`, `rest-json`, `query` or `ec2`. */
  readonly protocol: string;
  readonly operation: string;
  /** One sentence each; none: the service takes it. */
  readonly violations: readonly string[];
}

/** @throws where botocore cannot be installed, or a request is of no operation */
export async function judgeRequests(requests: readonly RecordedRequest[]): Promise<JudgedRequest[]> {
  const found = await findPipPackages("botocore", join(folder, "requirements.txt"));
  if ("missing" in found) {
    throw new Error(found.missing);
  }
  const { code, text, errorText } = await runCommand("python3", [join(folder, "validate.py")], {
    input: requests.map((each) => `${JSON.stringify(each)}\n`).join(""),
    env: pythonEnv(found.packages),
  });
  if (code !== 0) {
    throw new Error(`validate.py ended with ${code}: ${errorText}`);
  }
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as JudgedRequest);
}
