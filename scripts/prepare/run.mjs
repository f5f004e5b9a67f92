/** Running programs and telling the user. Plain JavaScript for Node 20, without packages, like all of scripts/prepare. */
import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";

/** The checkout. */
export const root = resolve(import.meta.dirname, "../..");

/** A failure that is told in one line, without a stack. */
export class Failure extends Error {}

/** Says what is done for the user, on standard error: standard output belongs to the program that is started. */
export function announce(text) {
  process.stderr.write(`sockerless: ${text}\n`);
}

/**
 * Runs a program with our standard streams (its output goes to standard error).
 *
 * @param {string} program
 * @param {string[]} args
 * @param {{ cwd?: string, env?: Record<string, string> }} [options]
 * @returns {Promise<number>} its exit code; 127 when it cannot be started
 */
export function run(program, args, options = {}) {
  return new Promise((done) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", 2, 2],
    });
    child.on("error", () => done(127));
    child.on("exit", (code, signal) => done(signal === null ? (code ?? 1) : 128));
  });
}

/**
 * Runs a program and gives what it printed.
 *
 * @returns {Promise<string | undefined>} undefined when it failed or cannot be started
 */
export function outputOf(program, args) {
  return new Promise((done) => {
    const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "ignore"] });
    let output = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.on("error", () => done(undefined));
    child.on("close", (code) => done(code === 0 ? output : undefined));
  });
}

/** The path of a program, on PATH or where administrators' programs are. */
export function findProgram(name) {
  const directories = (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
  for (const directory of [...directories, "/usr/local/sbin", "/usr/sbin", "/sbin"]) {
    const file = join(directory, name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) {
        return file;
      }
    } catch {
      // Not here.
    }
  }
  return undefined;
}

/** True if `version` (`1.26.8`) is at least `wanted` (`1.24`). */
export function isAtLeast(version, wanted) {
  const have = version.split(".").map(Number);
  const want = wanted.split(".").map(Number);
  for (let i = 0; i < want.length; i++) {
    if ((have[i] ?? 0) !== want[i]) {
      return (have[i] ?? 0) > want[i];
    }
  }
  return true;
}
