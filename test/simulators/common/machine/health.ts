/** Health checks of a container. */

/** A health check of a definition, its times in milliseconds. */
export interface HealthCheck {
  /** `CMD` and arguments, or `CMD-SHELL` and a line for the shell. */
  readonly command: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row after which the container is unhealthy. */
  readonly retries: number;
  /** Milliseconds in which failures do not count. */
  readonly startPeriodMs: number;
}

export type HealthStatus = "HEALTHY" | "UNHEALTHY";

/** The container and the clock, as a health check uses them. */
export interface HealthSurroundings {
  /** Runs a command in the container; answers whether it ended with 0. */
  execute(command: readonly string[]): Promise<boolean>;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Aborts when the container has ended. */
  readonly signal: AbortSignal;
  onChange(status: HealthStatus): void;
}

/** Runs a health check until the container ends. */
export async function watchHealth(check: HealthCheck, around: HealthSurroundings): Promise<void> {
  const [kind, ...rest] = check.command;
  const command = kind === "CMD-SHELL" ? ["/bin/sh", "-c", ...rest] : kind === "CMD" ? rest : check.command;
  const { signal } = around;
  let startPeriod = true;
  const startPeriodEnds = around.sleep(check.startPeriodMs, signal).then(
    () => {
      startPeriod = false;
    },
    () => {}, // the container has ended
  );
  let status: HealthStatus | undefined;
  let failures = 0;
  const change = (to: HealthStatus): void => {
    if (status !== to) {
      status = to;
      around.onChange(to);
    }
  };
  while (await slept(around, check.intervalMs)) {
    if (await passes(command, check.timeoutMs, around)) {
      failures = 0;
      startPeriod = false;
      change("HEALTHY");
    } else if (!startPeriod && !signal.aborted) {
      failures += 1;
      if (failures >= check.retries) {
        change("UNHEALTHY");
      }
    }
  }
  await startPeriodEnds;
}

/** @returns false when the container ended meanwhile */
async function slept({ sleep, signal }: HealthSurroundings, ms: number): Promise<boolean> {
  await sleep(ms, signal).catch(() => {});
  return !signal.aborted;
}

async function passes(
  command: readonly string[],
  timeoutMs: number,
  { execute, sleep, signal }: HealthSurroundings,
): Promise<boolean> {
  const over = new AbortController();
  const both = AbortSignal.any([over.signal, signal]);
  const timeout = sleep(timeoutMs, both).then(
    () => false,
    () => false,
  );
  const result = await Promise.race([execute(command), timeout]);
  over.abort();
  return result;
}
