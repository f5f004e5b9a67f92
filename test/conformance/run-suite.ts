/** One suite against sockerless and the reference, side by side. */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";

import { compileBuilder } from "../support/builds.ts";
import { checkout } from "../support/daemon.ts";
import { type Allowance, allowed } from "./allowed.ts";
import { type Candidate, resultsIn, runInCell } from "./cell.ts";
import { frozenImages } from "./frozen-images.ts";
import { type Judgement, judge } from "./judge.ts";
import { leavesOf, type Outcome, parentsOf, type Results } from "./results.ts";
import { isSkipped } from "./skipped.ts";
import { mobyPrograms, mobySource } from "./moby.ts";
import type { Suite } from "./suites.ts";

const suiteLimitMs = 100 * 60_000;

/** The judgement of a suite, and when it ran. */
export interface SuiteRun extends Judgement {
  /** `2026-11-21`, UTC. */
  readonly day: string;
  /** Tests that ran later without the others, and count as they ended then. */
  readonly again?: {
    readonly day: string;
    readonly tests: readonly { readonly test: string; readonly before: Outcome; readonly now: Outcome }[];
  };
}

/**
 * Builds what is missing, runs the suite and judges it. Logs and output are in build/conformance.
 *
 * @param only which of its tests: a pattern of `-test.run`, or a part of the names of docker-py's tour or of Ansible's containers
 * @returns undefined: none of its tests was chosen
 */
export async function runSuite(suite: Suite, only?: string): Promise<SuiteRun | undefined> {
  const surroundings = { programs: await mobyPrograms(), images: await frozenImages(await mobySource()) };
  const prepared = await suite.prepare(only);
  // A cell has no network from which it could be compiled.
  await compileBuilder();
  const run = (candidate: Candidate) =>
    runInCell({
      ...surroundings,
      ...prepared,
      candidate,
      directory: directoryOf(suite, candidate, only !== undefined),
      limitMs: suiteLimitMs,
    });
  const [ours, theirs] = (await Promise.all([run("sockerless"), run("dockerd")])).map((results) =>
    only !== undefined && suite.areSubtests === true ? withoutEmptySuites(results) : results,
  ) as [Results, Results];
  if (ours.size + theirs.size === 0) {
    if (only === undefined) {
      throw new Error(`${suite.name} has no test`);
    }
    return undefined;
  }
  if (ours.size === 0 || theirs.size === 0) {
    throw new Error(
      `${suite.name} ran ${ours.size} tests against sockerless, ${theirs.size} against dockerd`,
    );
  }
  const day = await dayOf(directoryOf(suite, "sockerless", only !== undefined));
  return { ...judge(ours, theirs, allowancesOf(suite), only === undefined), day };
}

/** Without tests that went well for want of a chosen subtest. */
function withoutEmptySuites(results: Results): Results {
  const parents = new Set([...results.keys()].flatMap(parentsOf));
  return new Map(
    [...results].filter(
      ([test, result]) => test.includes("/") || parents.has(test) || result.outcome !== "pass",
    ),
  );
}

/**
 * Judges what the last whole run of a suite has left, without tests that are left out by now, and with those that ran again
 * since as they ended then; undefined: it has not run.
 */
export async function judgeAgain(suite: Suite): Promise<SuiteRun | undefined> {
  const { isGoTest } = await suite.prepare(undefined);
  const whole = directoryOf(suite, "sockerless", false);
  if (!existsSync(whole)) {
    return undefined;
  }
  const [ours, theirs] = await Promise.all([
    resultsAgain(suite, "sockerless", isGoTest),
    resultsAgain(suite, "dockerd", isGoTest),
  ]);
  const judgement = {
    ...judge(ours.results, theirs.results, allowancesOf(suite), true),
    day: await dayOf(whole),
  };
  return ours.again.length === 0
    ? judgement
    : {
        ...judgement,
        again: { day: await dayOf(directoryOf(suite, "sockerless", true)), tests: ours.again },
      };
}

async function resultsAgain(
  suite: Suite,
  candidate: Candidate,
  isGoTest: boolean,
): Promise<{ readonly results: Results; readonly again: NonNullable<SuiteRun["again"]>["tests"] }> {
  const [whole, part] = [directoryOf(suite, candidate, false), directoryOf(suite, candidate, true)];
  const keptOf = async (directory: string): Promise<Results> =>
    new Map([...(await resultsIn(directory, isGoTest))].filter(([test]) => !isSkipped(suite.name, test)));
  const kept = await keptOf(whole);
  if (!(await isNewer(part, whole))) {
    return { results: kept, again: [] };
  }
  const later = await keptOf(part);
  const leaves = new Set(leavesOf(kept));
  const outcomeIn = (results: Results, test: string): Outcome => results.get(test)?.outcome ?? "unfinished";
  return {
    results: new Map([...kept, ...later]),
    again: leavesOf(later)
      .filter((test) => leaves.has(test))
      .map((test) => ({ test, before: outcomeIn(kept, test), now: outcomeIn(later, test) })),
  };
}

/** The day on which a cell began to write its output. */
async function dayOf(directory: string): Promise<string> {
  return (await stat(directory)).mtime.toISOString().slice(0, "2026-11-21".length);
}

async function isNewer(directory: string, than: string): Promise<boolean> {
  return existsSync(directory) && (await stat(directory)).mtimeMs > (await stat(than)).mtimeMs;
}

function allowancesOf({ name }: Suite): Allowance[] {
  return allowed.filter(({ suite }) => suite === name);
}

/** Logs and output of a cell; those of some of the tests stand beside those of all. */
function directoryOf({ name }: Suite, candidate: Candidate, isPart: boolean): string {
  const folder = `${name.replaceAll("/", "-")}${isPart ? ".part" : ""}`;
  return join(checkout, "build/conformance", folder, candidate);
}
