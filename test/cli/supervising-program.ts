/** A supervisor as a process of its own, so that a test can kill it: `supervising-program.js STATE_DIR START`. */
import { createLogger } from "../../src/common/logger.ts";
import { supervise } from "../../src/cli/supervisor.ts";
import { localConfig, recordingService } from "./supervised-services.ts";

const [, , stateDir = "", start = ""] = process.argv;
const config = localConfig(stateDir);
const logger = createLogger({ level: "silent", process: "supervisor" });
await supervise([recordingService("backend", start)], config, logger, new AbortController().signal);
process.stdout.write("ready\n");
