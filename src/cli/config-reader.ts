/** Reads the configuration of `sockerless serve` in a process of its own, whose code the daemon need not keep. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fstatSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { ConfigMessage } from "./messages.ts";

/** A configuration that was read, or the exit code of the process that has told why it was not. */
export interface ReadConfig {
  readonly read: ConfigMessage | undefined;
  readonly exitCode: number;
}

/** Reads the configuration that this process's arguments, its environment and the file name. */
export async function readConfig(): Promise<ReadConfig> {
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
  return { read, exitCode: code ?? 1 };
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
