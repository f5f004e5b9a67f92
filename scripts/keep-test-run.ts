/**
 * The keeper of a run of tests: it waits for the end of the runner, which holds the other end of its standard input and
 * has written the run's directory there, and removes what the tests have left.
 */
import { text } from "node:stream/consumers";

import { removeRun } from "./test-run.ts";

const directory = await text(process.stdin);
const left = directory === "" ? [] : await removeRun(directory);
if (left.length > 0) {
  console.error(`could not be removed:\n${left.map((each) => `  ${each}`).join("\n")}`);
  process.exitCode = 1;
}
