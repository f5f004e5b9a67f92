/** Results of a suite's tests, from the events of `go tool test2json`. */
import { createInterface } from "node:readline";

/** How a test ended. `unfinished`: the suite ended before it did. */
export type Outcome = "pass" | "fail" | "skip" | "unfinished";

/** One test and what it printed. */
export interface TestResult {
  readonly outcome: Outcome;
  readonly output: string;
}

/** By the test's name, with `/` before each subtest. */
export type Results = ReadonlyMap<string, TestResult>;

interface TestEvent {
  readonly Action: string;
  readonly Test?: string;
  readonly Output?: string;
}

/** Reads events, one of JSON a line; lines that are none are left out. */
export async function readResults(stream: NodeJS.ReadableStream): Promise<Results> {
  const outcomes = new Map<string, Outcome>();
  const outputs = new Map<string, string>();
  for await (const line of createInterface({ input: stream })) {
    const event = parsed(line);
    if (event?.Test === undefined) {
      continue;
    }
    const name = event.Test;
    if (event.Action === "output") {
      outputs.set(name, (outputs.get(name) ?? "") + (event.Output ?? ""));
    } else if (event.Action === "run") {
      outcomes.set(name, "unfinished");
    } else if (event.Action === "pass" || event.Action === "fail" || event.Action === "skip") {
      outcomes.set(name, event.Action);
    }
  }
  return new Map(
    [...outcomes].map(([name, outcome]) => [name, { outcome, output: outputs.get(name) ?? "" }]),
  );
}

/** True if a test was neither passed nor skipped. */
export function isFailure(result: TestResult | undefined): boolean {
  return result?.outcome === "fail" || result?.outcome === "unfinished";
}

/** The failed tests that did not fail for a subtest of theirs only. */
export function failedLeaves(results: Results): string[] {
  const failed = [...results].filter(([, result]) => isFailure(result)).map(([name]) => name);
  const withFailedSubtest = new Set(failed.flatMap(parentsOf));
  return failed.filter((name) => !withFailedSubtest.has(name));
}

/** The tests without those of whose subtests it was told. */
export function leavesOf(results: Results): string[] {
  const parents = new Set([...results.keys()].flatMap(parentsOf));
  return [...results.keys()].filter((test) => !parents.has(test));
}

/** `A/B/C` to `A/B` and `A`. */
export function parentsOf(name: string): string[] {
  const parts = name.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

const noise =
  /^(=== |--- |\[d\w{12,13}\] (waiting|exiting|joining|daemon started|error pinging|received)|Creating a new daemon|\{"level|Traceback|File "|Error Trace:|\S+\.go:\d+$)/;

/** The first lines of a failure that say something. */
export function symptomOf(result: TestResult): string {
  const lines = result.output
    .split("\n")
    .map((line) => line.replace(/^\s*\S+\.go:\d+: /, "").trim())
    .filter((line) => line !== "" && !noise.test(line));
  const raised = lines.findLast((line) => /^[\w.]*(\wError|\wException|\.NotFound)\b/.test(line));
  return (raised ?? lines.slice(0, 4).join(" · ")).slice(0, 300) || result.outcome;
}

function parsed(line: string): TestEvent | undefined {
  try {
    return JSON.parse(line) as TestEvent;
  } catch {
    return undefined;
  }
}
