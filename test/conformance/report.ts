/** docs/conformance.md: what was run, with what result, and each expected failure with its reason. */
import { buildkitVersion } from "./buildkit.ts";
import { mobyVersion } from "./moby.ts";
import type { SuiteRun } from "./run-suite.ts";
import { skipped } from "./skipped.ts";

/** A part of the document: what it says of a suite. */
interface Section {
  readonly heading: string;
  readonly intro?: string;
  readonly linesOf: (suite: string, run: SuiteRun) => readonly string[];
}

const results: Section = {
  heading: "Results",
  linesOf: (suite, { day, ran, passedHere, passedThere, passedOnBoth, skipped: left }) => [
    `| ${suite} | ${day} | ${ran} | ${passedHere} | ${passedThere} | ${passedOnBoth} | ${left} |`,
  ],
};

/** Those that are left out where no suite has lines in them. */
const sections: readonly Section[] = [
  {
    heading: "Expected failures",
    linesOf: (suite, { allowed }) => {
      const byReason = Map.groupBy(allowed, ({ allowance }) => reasonOf(allowance));
      return [...byReason].map(
        ([reason, failures]) => `- **${suite}**, ${reason}: ${listed(failures.map(({ test }) => test))}`,
      );
    },
  },
  {
    heading: "Failures of both",
    intro: "They need what the cell does not have: a network outside, a kernel module.",
    linesOf: (suite, { failBoth }) => failures(suite, failBoth),
  },
  {
    heading: "Failures without a reason",
    intro: "The run failed for these.",
    linesOf: (suite, { unexpected }) => failures(suite, unexpected),
  },
  {
    heading: "Run again alone",
    intro: "They count as they ended then, not as among the others.",
    linesOf: (suite, { again }) => {
      const tests = again?.tests.map(({ test, before, now }) => `\`${test}\` (${before}, then ${now})`);
      return tests === undefined ? [] : [`- **${suite}**, on ${again?.day}: ${tests.join(", ")}`];
    },
  },
];

/**
 * The document of all suites' runs, which may be of several days.
 *
 * @param judgements of suites that have run
 * @param before the document that there is: what it says of the other suites stays
 * @param names of all suites, in their order
 */
export function conformanceDocument(
  judgements: ReadonlyMap<string, SuiteRun>,
  before: string,
  names: readonly string[],
): string {
  const linesOf = (section: Section): readonly string[] =>
    names.flatMap((suite) => {
      const run = judgements.get(suite);
      return run === undefined ? keptLines(before, section, suite) : section.linesOf(suite, run);
    });
  const lines = [
    "# Docker's own suites",
    "",
    `\`npm run conformance\` runs the suites of moby v${mobyVersion}, built from its Go module, docker-py's surface`,
    "([`docker-py-tour.py`](../test/conformance/docker-py-tour.py)), a [tour](../test/programs/ansible/tour.yml) of Ansible's",
    "collection `community.docker`, [jobs](../test/conformance/gitlab/jobs.ts) of GitLab Runner 19.4, the tests of",
    "testcontainers-go and of docker-java, and a",
    "[tour](../test/programs/java/src/main/java/sockerless/tour) of testcontainers for Java, whose own tests Maven does not have,",
    `against sockerless and against a dockerd ${mobyVersion} built from the same module, each in namespaces of its own;`,
    `BuildKit's own tests of Dockerfiles run beside a buildkitd ${buildkitVersion} in dockerd's place. A failure is allowed only`,
    "where that dockerd fails too, or where [`allowed.ts`](../test/conformance/allowed.ts) says why; what is allowed and",
    "passes fails the run. It wrote this file, or `--judge` did from what runs have left: of each suite the last run of all its",
    "tests, with other suites or alone, and tests that ran again later, which are named below.",
    "",
    "## Results",
    "",
    "| Suite | Run on | Ran | sockerless passed | dockerd passed | Both passed | Skipped by the suite |",
    "|---|---|---|---|---|---|---|",
    ...linesOf(results),
    "",
    "Counted are tests without subtests, and the subtests of the others.",
  ];
  for (const section of sections) {
    const found = linesOf(section);
    if (found.length > 0) {
      const intro = section.intro === undefined ? [] : [section.intro, ""];
      lines.push("", `## ${section.heading}`, "", ...intro, ...found);
    }
  }
  lines.push("", "## Not run", "");
  for (const { suite, reason, tests } of skipped) {
    lines.push(`- **${suite}**, ${reason}: ${listed(tests)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Lines of a suite in a section of a document. */
function keptLines(document: string, { heading }: Section, suite: string): string[] {
  const section = document.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? "";
  const beginnings = [`| ${suite} |`, `- **${suite}**`];
  return section.split("\n").filter((line) => beginnings.some((beginning) => line.startsWith(beginning)));
}

function failures(suite: string, failed: readonly { readonly test: string }[]): string[] {
  return failed.length === 0 ? [] : [`- **${suite}**: ${listed(failed.map(({ test }) => test))}`];
}

function reasonOf(allowance: { readonly topic: string; readonly anchor: string }): string {
  return `[${allowance.topic}](differences.md#${allowance.anchor})`;
}

function listed(tests: readonly string[]): string {
  return tests.map((test) => `\`${test}\``).join(", ");
}
