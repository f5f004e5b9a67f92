/** Getting a task from AWS. */
import {
  ConflictException,
  type ECSClient,
  type Failure,
  RunTaskCommand,
  type RunTaskCommandInput,
  type RunTaskCommandOutput,
} from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import { unlessAborted } from "../../common/unless-aborted.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError, isAwsError, isRefusal, isThrottled } from "../aws/errors.ts";
import type { QuotaLine, QuotaLines } from "./quota-lines.ts";
import { isQuota, startFailure } from "./reasons.ts";
import type { LateAnswer, UnansweredRequests } from "./unanswered-requests.ts";

/** By which rules starts wait for room. */
export interface RoomOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether tasks run whose end would make room for this start. */
  readonly isRoomExpected: () => Promise<boolean>;
  /** How long a start waits for the quota while nothing runs whose end would make room, milliseconds. */
  readonly startTimeoutMs: number;
  /** How long it waits at most, milliseconds. */
  readonly quotaTimeoutMs: number;
}

/** What tasks are got with. */
export interface RunOptions extends RoomOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly quotaLines: QuotaLines;
  /** Takes over a request that AWS has not answered when its start ends. */
  readonly unanswered: Pick<UnansweredRequests, "leave">;
}

/** Whose task it is, and how it waits. */
export interface TaskStart {
  readonly containerId: string;
  /** AWS may have been asked already, and its answer been lost with the backend. */
  readonly isResumed: boolean;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Told that the quota has no room, in AWS's words: once, and again where AWS puts it in another way. */
  readonly waits: (reason: string) => void;
}

/** A start that AWS refuses because its task definition is not there any more. */
export class DefinitionGone extends Error {}

/** ECS' words for one that was deregistered, that is being deleted, and that was deleted; all are a `ClientException`. */
const noDefinition =
  /task ?definition .*(inactive|not found|does not exist)|unable to describe task definition/i;

const firstPauseMs = 1_000;
const longestPauseMs = 5_000;

/**
 * Asks AWS for a task. A quota that is used up is waited for, in line with others, and said in the log; told again with
 * the same token, AWS answers with the task of the first time. When the signal aborts, a request that is on its way is
 * left to {@link RunOptions.unanswered}: AWS may give a task all the same.
 *
 * @returns the task's ARN
 * @throws DefinitionGone; system or unavailable with AWS's reason; the signal's reason
 */
export async function runTask(
  request: RunTaskCommandInput,
  start: TaskStart,
  options: RunOptions,
): Promise<string> {
  const lineOfSize = (): QuotaLine => options.quotaLines.of(request.overrides?.cpu ?? "");
  const { waiting, reason } = lineOfSize();
  const answer: Answer =
    waiting > 0 && !start.isResumed ? { waitsFor: reason } : await ask(request, start, start.signal, options);
  if ("arn" in answer) {
    return answer.arn;
  }
  if (!isQuota(answer.waitsFor)) {
    throw startFailure(answer.waitsFor, answer.cause);
  }
  const line = lineOfSize(); // While AWS was asked, one may have come to its end, and another been begun.
  line.reason = answer.waitsFor;
  return await waitForRoom(request, start, line, options);
}

async function waitForRoom(
  request: RunTaskCommandInput,
  start: TaskStart,
  line: QuotaLine,
  options: RunOptions,
): Promise<string> {
  const { clock, logger, quotaTimeoutMs } = options;
  const isFirst = line.waiting === 0;
  using place = line.join();
  using limit = new QuotaLimit(start.signal, clock, quotaTimeoutMs);
  let told = "";
  const tell = (reason: string): void => {
    if (reason !== told) {
      told = reason;
      logger.warn({ container: start.containerId }, `a container waits to be started: ${reason}`);
      start.waits(reason);
    }
  };
  tell(line.reason);
  try {
    await place.turn(limit.signal);
    if (isFirst) {
      await clock.sleep(firstPauseMs, limit.signal);
    }
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const answer = await ask(request, start, limit.signal, options);
      if ("arn" in answer) {
        line.idleSinceMs = undefined;
        return answer.arn;
      }
      if (!isQuota(answer.waitsFor)) {
        throw startFailure(answer.waitsFor, answer.cause);
      }
      line.reason = answer.waitsFor;
      tell(answer.waitsFor);
      await refuseWhereNoneComes(line, options);
      await clock.sleep(pauseMs, limit.signal);
    }
  } catch (error) {
    if (limit.isOver) {
      throw startFailure(`${told} (after ${quotaTimeoutMs / 1000} s, ecs.quota_timeout)`, error);
    }
    throw limit.signal.aborted ? startFailure(told, error) : error;
  }
}

/** @throws unavailable: for so long nothing has run that would make room, as where the quota is less than the task needs */
export async function refuseWhereNoneComes(
  line: Pick<QuotaLine, "reason" | "idleSinceMs">,
  { clock, isRoomExpected, startTimeoutMs }: RoomOptions,
): Promise<void> {
  if (await isRoomExpected()) {
    line.idleSinceMs = undefined;
    return;
  }
  line.idleSinceMs ??= clock.nowMs();
  if (clock.nowMs() - line.idleSinceMs >= startTimeoutMs) {
    throw startFailure(
      `${line.reason}; for ${startTimeoutMs / 1000} s (ecs.start_timeout) no task has run in the cluster whose end would make room`,
    );
  }
}

/** The time that a start may wait for the quota. */
class QuotaLimit implements Disposable {
  /** Aborts when the time is over, and with the signal that this was made with. */
  readonly signal: AbortSignal;
  readonly #timeout = new AbortController();
  readonly #ended = new AbortController();

  constructor(signal: AbortSignal, clock: Clock, limitMs: number) {
    this.signal = AbortSignal.any([signal, this.#timeout.signal]);
    clock.sleep(limitMs, this.#ended.signal).then(
      () => this.#timeout.abort(),
      () => {},
    );
  }

  /** Whether the time is over. */
  get isOver(): boolean {
    return this.#timeout.signal.aborted;
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
  }
}

type Answer = { readonly arn: string } | { readonly waitsFor: string; readonly cause?: unknown };

async function ask(
  request: RunTaskCommandInput,
  { containerId }: TaskStart,
  signal: AbortSignal,
  { ecs, unanswered }: RunOptions,
): Promise<Answer> {
  const sent = ecs.send(new RunTaskCommand(request), { abortSignal: signal });
  try {
    const { tasks = [], failures = [] } = await unlessAborted(signal, sent);
    const arn = tasks[0]?.taskArn;
    return arn === undefined ? { waitsFor: describeFailures(failures) } : { arn };
  } catch (error) {
    if (signal.aborted) {
      unanswered.leave(containerId, lateAnswer(sent, signal));
    }
    const arn = arnOfConflict(error);
    if (arn !== undefined) {
      return { arn };
    }
    if (isAwsError(error, "ClientException") && noDefinition.test(error.message)) {
      throw new DefinitionGone(error.message, { cause: error });
    }
    if (error instanceof AwsError) {
      return { waitsFor: error.message, cause: error };
    }
    throw error;
  }
}

/** What becomes of a request that nobody waits for any more. @param signal ended the wait */
async function lateAnswer(sent: Promise<RunTaskCommandOutput>, signal: AbortSignal): Promise<LateAnswer> {
  try {
    const { tasks = [] } = await sent;
    const arn = tasks[0]?.taskArn;
    return arn === undefined ? "none" : { arn };
  } catch (error) {
    const arn = arnOfConflict(error);
    if (arn !== undefined) {
      return { arn };
    }
    const isRefused = isRefusal(error) || (error instanceof AwsError && isThrottled(error));
    return isRefused || error === signal.reason ? "none" : "unknown";
  }
}

/** The task whose token was given: by this very start, asked for differently by an earlier version of this program. */
function arnOfConflict(error: unknown): string | undefined {
  const cause = isAwsError(error, "ConflictException") ? error.cause : undefined;
  return cause instanceof ConflictException ? cause.resourceIds?.[0] : undefined;
}

function describeFailures(failures: readonly Failure[]): string {
  const said = failures.map(({ reason = "", detail = "" }) =>
    [reason, detail].filter((text) => text !== "").join(": "),
  );
  return said.length > 0 ? [...new Set(said)].join("; ") : "AWS gave no task and no reason";
}
