/** `npm run conformance`: Docker's own suites against sockerless and against a dockerd of the same release, side by side. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { Option } from "commander";

import { checkout } from "../support/daemon.ts";
import { npmScript } from "../support/npm-script.ts";
import { allowed, differenceLimit } from "./allowed.ts";
import { cache } from "./cache.ts";
import { missingPrograms } from "./machine.ts";
import { conformanceDocument } from "./report.ts";
import { judgeAgain, runSuite, type SuiteRun } from "./run-suite.ts";
import { suites } from "./suites.ts";

/** The cells end by themselves at these signals; what they had to say is of no use then. */
let isInterrupted = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    isInterrupted = true;
  });
}

async function main(): Promise<number> {
  const command = npmScript(
    "conformance",
    "Docker's own suites against sockerless and a dockerd of the same release; logs are in build/conformance.",
  )
    .argument(
      "[suites...]",
      "beginnings of their names, without any all; docs/conformance.md tells of those whose tests ran all",
    )
    .option("--run <pattern>", "the tests of them that this matches")
    .addOption(
      new Option(
        "--judge",
        "run nothing: judge what each suite's last run of all its tests has left",
      ).conflicts("run"),
    )
    .addHelpText("after", `\nSuites: ${suites.map(({ name }) => name).join(", ")}`)
    .parse();
  const { run, judge: isJudgedAgain } = command.opts<{ run?: string; judge?: true }>();
  const chosen = suites.filter(
    ({ name }) => command.args.length === 0 || command.args.some((each) => name.startsWith(each)),
  );
  if (chosen.length === 0) {
    command.error(`error: there is no suite ${command.args.join(", ")}`);
  }
  const needed = Object.assign({}, ...chosen.map(({ programs }) => programs)) as Record<string, string>;
  const complaints = [...missingPrograms(needed), ...(await badAllowances())];
  if (complaints.length > 0) {
    console.error(complaints.map((each) => `conformance: ${each}`).join("\n"));
    return 1;
  }
  console.log(`conformance: what is not in ${cache} is built first`);
  const judgements = new Map<string, SuiteRun>();
  for (const suite of chosen) {
    const judging = isJudgedAgain === true ? judgeAgain(suite) : runSuite(suite, run);
    const judgement = await judging.catch((error: unknown) => {
      if (isInterrupted) {
        return undefined; // A cell that was ended before its first test.
      }
      throw error;
    });
    if (isInterrupted) {
      return 1;
    }
    if (judgement !== undefined) {
      judgements.set(suite.name, judgement);
      tell(suite.name, judgement);
    } else if (run === undefined) {
      return command.error(`error: ${suite.name} has not run`);
    }
  }
  if (judgements.size === 0) {
    console.error(`conformance: no test of ${chosen.map(({ name }) => name).join(", ")} matches ${run}`);
    return 1;
  }
  const isBad = [...judgements.values()].some(
    ({ unexpected, passedThough }) => unexpected.length + passedThough.length > 0,
  );
  if (run === undefined) {
    const path = join(checkout, "docs/conformance.md");
    const names = suites.map(({ name }) => name);
    await writeFile(path, conformanceDocument(judgements, await readFile(path, "utf8"), names));
  }
  return isBad ? 1 : 0;
}

function tell(suite: string, judgement: SuiteRun): void {
  const { ran, passedHere, passedThere, failBoth, allowed: expected, unexpected, passedThough } = judgement;
  console.log(
    `${suite}: ${ran} ran, sockerless passed ${passedHere}, dockerd ${passedThere}; ` +
      `${failBoth.length} fail on both, ${expected.length} are expected, ${unexpected.length} are not`,
  );
  for (const { test, symptom } of unexpected) {
    console.log(`  FAILED ${test}: ${symptom}`);
  }
  for (const { test } of passedThough) {
    console.log(`  PASSED ${test}, which is expected to fail: take it out of test/conformance/allowed.ts`);
  }
}

/** Entries of the list that give no reason, and whether there are too many. */
async function badAllowances(): Promise<string[]> {
  const document = await readFile(join(checkout, "docs/differences.md"), "utf8");
  const anchors = new Set(
    [...document.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
  const differences = allowed.filter(({ topic }) => topic === "difference").length;
  return [
    ...allowed
      .filter(({ anchor }) => !anchors.has(anchor))
      .map(({ test, anchor }) => `docs/differences.md has no section ${anchor}, which ${test} names`),
    ...(differences > differenceLimit
      ? [`${differences} differences are allowed, more than ${differenceLimit}`]
      : []),
  ];
}

process.exitCode = await main();
