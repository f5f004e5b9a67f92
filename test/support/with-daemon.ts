import { after, before } from "node:test";
import { Daemon, type DaemonOptions } from "./daemon.ts";
import { busyboxArchiveFile } from "./images.ts";

/** Gives the tests of a file one daemon with the image `busybox`. */
export function withDaemon(options: DaemonOptions = {}): { readonly daemon: Daemon } {
  let started: Daemon | undefined;
  before(async () => {
    started = await Daemon.start(options);
    await started.ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    await started?.stop();
  });
  return {
    get daemon() {
      if (started === undefined) {
        throw new Error("the daemon is there once a test runs");
      }
      return started;
    },
  };
}
