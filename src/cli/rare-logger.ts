import type { Logger } from "../common/logger.ts";
import type { LineLogger, WriteLine } from "../common/process-log.ts";

/**
 * A logger that is loaded when it writes its first line: it takes 2 MB, and most supervisors never write one.
 *
 * @param load if it fails, the line goes to standard error unformatted
 */
export function rareLogger(load: () => Promise<Logger>): LineLogger {
  let loading: Promise<Logger> | undefined;
  const writer =
    (level: keyof LineLogger): WriteLine =>
    (values, message) => {
      loading ??= load();
      loading.then(
        (logger) => logger[level](values, message),
        () => {
          loading = undefined; // The next line tries again.
          console.error(`${level}: ${message}`, values);
        },
      );
    };
  return { debug: writer("debug"), info: writer("info"), warn: writer("warn"), error: writer("error") };
}
