/** A supervisor as a process of its own, so that a test can kill it: `supervising-program.js STATE_DIR`. */
import { createLogger } from "../../src/common/logger.ts";
import { supervise } from "../../src/cli/supervisor.ts";
import { localConfig, recordingService } from "./supervised-services.ts";

const config = localConfig(process.argv[2] ?? "");
const logger = createLogger({ level: "silent", process: "supervisor" });
await supervise([recordingService("backend", "startWell")], config, logger, new AbortController().signal);
process.stdout.write("ready\n");
