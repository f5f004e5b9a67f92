/**
 * The process of `sockerless serve`. It stays as long as the daemon, so it loads little: another process reads command
 * line and configuration, whose code is twice as large as its own. With `--detach` it starts the daemon and waits until
 * it serves.
 */
import "../common/compile-cache.ts";

import { fork } from "node:child_process";
import { once } from "node:events";
import { fstatSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { makeStateDirectory } from "../common/state-directory.ts";
import { reportFailure } from "./lifetime.ts";
import type { ConfigMessage } from "./messages.ts";
import { serve } from "./serve.ts";

try {
  const read = await readConfig();
  if (read !== undefined) {
    await makeStateDirectory(read.config);
    if (read.isDetached) {
      const { serveDetached } = await import("./detach.ts");
      process.exitCode = await serveDetached(read.config);
    } else {
      await serve(read.config);
    }
  }
} catch (error) {
  reportFailure("serve", error);
  process.exit(1);
}

/** Reads the configuration; undefined if that fails, with the exit code set. */
async function readConfig(): Promise<ConfigMessage | undefined> {
  const inherited = filesAndPipes();
  const descriptors = Array.from({ length: Math.max(2, ...inherited) + 1 }, (_, fd) =>
    fd < 3 ? "inherit" : inherited.includes(fd) ? fd : "ignore",
  );
  const child = fork(fileURLToPath(new URL("./read-config.js", import.meta.url)), process.argv.slice(2), {
    stdio: [...descriptors, "ipc"],
  });
  let read: ConfigMessage | undefined;
  child.on("message", (message: ConfigMessage) => {
    read = message;
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (read === undefined) {
    process.exitCode = code ?? 1;
  }
  return read;
}

/** Descriptors that the configuration may come from, as in `--config /dev/fd/63`; includes Node's own pipes. */
function filesAndPipes(): number[] {
  return readdirSync("/proc/self/fd")
    .map(Number)
    .filter((fd) => {
      try {
        const kind = fstatSync(fd);
        return kind.isFIFO() || kind.isFile();
      } catch {
        return false; // The directory's own descriptor, closed by now.
      }
    });
}
