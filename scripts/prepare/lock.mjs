/** One preparation of a checkout at a time: two would write the same files. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { announce, root } from "./run.mjs";

const file = join(root, "build/.preparing");

/** Runs `work` while no other process of this checkout runs its own. */
export async function exclusively(work) {
  mkdirSync(join(root, "build"), { recursive: true });
  let told = false;
  while (!take()) {
    if (!told) {
      announce("waiting for another preparation of this checkout to end");
      told = true;
    }
    await delay(200);
  }
  const release = () => rmSync(file, { force: true });
  process.once("exit", release);
  try {
    return await work();
  } finally {
    process.off("exit", release);
    release();
  }
}

function take() {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") {
      throw error;
    }
  }
  const holder = readHolder();
  if (holder === undefined || (holder !== 0 && !isAlive(holder))) {
    rmSync(file, { force: true });
  }
  return false;
}

/** The process that holds the lock; 0 when it has not written its ID yet, undefined when it has just released it. */
function readHolder() {
  try {
    return Number(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
