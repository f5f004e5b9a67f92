/** docs/conformance.md: what was run, with what result, and each expected failure with its reason. */
import { buildkitVersion } from "./buildkit.ts";
import { mobyVersion } from "./moby.ts";
import type { SuiteRun } from "./run-suite.ts";
import { skipped } from "./skipped.ts";

/** The document of all suites' runs, which may be of several days. */
export function conformanceDocument(judgements: ReadonlyMap<string, SuiteRun>): string {
  const lines = [
    "# Docker's own suites",
    "",
    `\`npm run conformance\` runs the suites of moby v${mobyVersion}, built from its Go module, docker-py's surface`,
    "([`docker-py-tour.py`](../test/conformance/docker-py-tour.py)) and testcontainers-go's tests against sockerless and",
    `against a dockerd ${mobyVersion} built from the same module, each in namespaces of its own; BuildKit's own tests of`,
    `Dockerfiles run beside a buildkitd ${buildkitVersion} in dockerd's place. A failure is allowed only`,
    "where that dockerd fails too, or where [`allowed.ts`](../test/conformance/allowed.ts) says why; what is allowed and",
    "passes fails the run. It wrote this file, or `--judge` did from what runs have left: of each suite the last run of all its",
    "tests, and tests that ran again later, which are named below.",
    "",
    "| Suite | Run on | Ran | sockerless passed | dockerd passed | Both passed | Skipped by the suite |",
    "|---|---|---|---|---|---|---|",
    ...[...judgements].map(
      ([suite, { day, ran, passedHere, passedThere, passedOnBoth, skipped: left }]) =>
        `| ${suite} | ${day} | ${ran} | ${passedHere} | ${passedThere} | ${passedOnBoth} | ${left} |`,
    ),
    "",
    "Counted are tests without subtests, and the subtests of the others.",
    "",
    "## Expected failures",
    "",
  ];
  for (const [suite, judgement] of judgements) {
    const byReason = new Map<string, string[]>();
    for (const { test, allowance } of judgement.allowed) {
      const tests = byReason.get(reasonOf(allowance)) ?? [];
      byReason.set(reasonOf(allowance), [...tests, test]);
    }
    for (const [reason, tests] of byReason) {
      lines.push(`- **${suite}**, ${reason}: ${listed(tests)}`);
    }
  }
  lines.push(
    "",
    "## Failures of both",
    "",
    "They need what the cell does not have: a network outside, a kernel module.",
    "",
  );
  for (const [suite, { failBoth }] of judgements) {
    if (failBoth.length > 0) {
      lines.push(`- **${suite}**: ${listed(failBoth.map(({ test }) => test))}`);
    }
  }
  if ([...judgements.values()].some(({ unexpected }) => unexpected.length > 0)) {
    lines.push("", "## Failures without a reason", "", "The run failed for these.", "");
  }
  for (const [suite, { unexpected }] of judgements) {
    if (unexpected.length > 0) {
      lines.push(`- **${suite}**: ${listed(unexpected.map(({ test }) => test))}`);
    }
  }
  if ([...judgements.values()].some(({ again }) => again !== undefined)) {
    lines.push("", "## Run again alone", "", "They count as they ended then, not as among the others.", "");
  }
  for (const [suite, { again }] of judgements) {
    if (again !== undefined) {
      const tests = again.tests.map(({ test, before, now }) => `\`${test}\` (${before}, then ${now})`);
      lines.push(`- **${suite}**, on ${again.day}: ${tests.join(", ")}`);
    }
  }
  lines.push("", "## Not run", "");
  for (const { suite, reason, tests } of skipped) {
    lines.push(`- **${suite}**, ${reason}: ${listed(tests)}`);
  }
  return `${lines.join("\n")}\n`;
}

function reasonOf(allowance: { readonly topic: string; readonly anchor: string }): string {
  return `[${allowance.topic}](differences.md#${allowance.anchor})`;
}

function listed(tests: readonly string[]): string {
  return tests.map((test) => `\`${test}\``).join(", ");
}
