/**
 * The process of `sockerless serve`. It stays as long as the daemon, so it loads little: another process reads command
 * line and configuration, whose code is twice as large as its own. With `--detach` it starts the daemon and waits until
 * it serves.
 */
import "../common/compile-cache.ts";

import { makeStateDirectory } from "../common/state-directory.ts";
import { reportFailure } from "./report-failure.ts";
import { readConfig } from "./config-reader.ts";
import { serve } from "./serve.ts";

try {
  const { read, exitCode } = await readConfig();
  if (read === undefined) {
    process.exitCode = exitCode;
  } else {
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
