/** Prerequisites of running sockerless: npm packages, compiled TypeScript, the agent, system packages. */
import { buildAgent } from "./build-agent.mjs";
import { buildTypeScript } from "./build-typescript.mjs";
import { exclusively } from "./lock.mjs";
import { ensureNpmPackages } from "./npm-packages.mjs";
import { announce, Failure } from "./run.mjs";
import { ensureSystemPackages } from "./system-packages.mjs";

/**
 * Makes ready what is not.
 *
 * @param {{ packages?: "containers" | "tests", build?: boolean }} wanted system packages and for what; whether to build
 */
export async function prepare({ packages, build = true }) {
  await exclusively(async () => {
    if (packages !== undefined) {
      await ensureSystemPackages(packages);
    }
    const fromNpm = async () => {
      await ensureNpmPackages();
      if (build) {
        await buildTypeScript();
      }
    };
    // Neither needs the other: on a fresh clone this halves the wait.
    const results = await Promise.allSettled([fromNpm(), build ? buildAgent() : undefined]);
    for (const result of results) {
      if (result.status === "rejected") {
        throw result.reason;
      }
    }
  });
}

/** Runs a script's main function: a failure is one line and exit code 1. */
export async function main(script) {
  try {
    process.exitCode = (await script()) ?? 0;
  } catch (error) {
    if (["EACCES", "EPERM", "EROFS"].includes(error.code)) {
      announce(
        `cannot write ${error.path}: run this as the owner of the checkout (containers of this machine need root)`,
      );
    } else if (error instanceof Failure) {
      announce(error.message);
    } else {
      throw error;
    }
    process.exitCode = 1;
  }
}
