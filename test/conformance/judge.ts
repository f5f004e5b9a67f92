/** Judging a run: which failures are allowed, and which of those that were allowed have passed. */
import { type Allowance, ownAnswers } from "./allowed.ts";
import { failedLeaves, isFailure, leavesOf, parentsOf, type Results, symptomOf } from "./results.ts";

/** A test that failed against sockerless. */
export interface Failure {
  readonly test: string;
  readonly symptom: string;
}

/** The judgement of a suite's run. */
export interface Judgement {
  /** Tests, without those of whose subtests it was told. */
  readonly ran: number;
  readonly passedHere: number;
  readonly passedThere: number;
  readonly passedOnBoth: number;
  readonly skipped: number;
  /** Tests that fail with dockerd too. */
  readonly failBoth: readonly Failure[];
  /** Tests that are allowed to fail. */
  readonly allowed: readonly (Failure & { readonly allowance: Pick<Allowance, "topic" | "anchor"> })[];
  /** Tests that failed and are not allowed to. */
  readonly unexpected: readonly Failure[];
  /** Allowances none of whose tests failed though they ran. */
  readonly passedThough: readonly Allowance[];
}

/**
 * Judges one suite.
 *
 * @param ours its tests against sockerless
 * @param theirs the same against the reference
 * @param allowances those of this suite
 * @param isWhole whether all of the suite's tests were to run
 */
export function judge(
  ours: Results,
  theirs: Results,
  allowances: readonly Allowance[],
  isWhole: boolean,
): Judgement {
  const failures = failedLeaves(ours).map((test) => ({ test, symptom: symptomOf(ours.get(test) ?? none) }));
  const failBoth = failures.filter(({ test }) => failsThere(test, theirs));
  const onlyHere = failures.filter((failure) => !failBoth.includes(failure));
  const allowed = onlyHere.flatMap((failure) => {
    const answer = ownAnswers.find(({ text }) => text.test(ours.get(failure.test)?.output ?? ""));
    const allowance = allowances.find((each) => covers(each, failure.test)) ?? answer;
    return allowance === undefined ? [] : [{ ...failure, allowance }];
  });
  const allowedTests = new Set(allowed.map(({ test }) => test));
  const leaves = leavesOf(ours);
  return {
    ran: leaves.filter((test) => ours.get(test)?.outcome !== "skip").length,
    passedHere: leaves.filter((test) => ours.get(test)?.outcome === "pass").length,
    passedThere: leavesOf(theirs).filter((test) => theirs.get(test)?.outcome === "pass").length,
    passedOnBoth: leaves.filter(
      (test) => ours.get(test)?.outcome === "pass" && theirs.get(test)?.outcome === "pass",
    ).length,
    skipped: leaves.filter((test) => ours.get(test)?.outcome === "skip").length,
    failBoth,
    allowed,
    unexpected: onlyHere.filter(({ test }) => !allowedTests.has(test)),
    passedThough: allowances.filter(
      (each) =>
        (isWhole || [...ours.keys()].some((test) => covers(each, test))) &&
        !failures.some(({ test }) => covers(each, test)),
    ),
  };
}

const none = { outcome: "unfinished", output: "" } as const;

/** An allowance is for a test and its subtests. */
function covers(allowance: Allowance, test: string): boolean {
  return test === allowance.test || test.startsWith(`${allowance.test}/`);
}

/** True if the reference fails the test, or one above it before it comes to it. */
function failsThere(test: string, theirs: Results): boolean {
  const result = theirs.get(test);
  return result === undefined
    ? parentsOf(test).some((parent) => failedLeaves(theirs).includes(parent))
    : isFailure(result);
}
