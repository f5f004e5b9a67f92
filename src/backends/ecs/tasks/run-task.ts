/** Getting a task from AWS. */
import {
  ConflictException,
  type ECSClient,
  type Failure,
  RunTaskCommand,
  type RunTaskCommandInput,
} from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError, isAwsError } from "../aws/errors.ts";
import { isQuota, startFailure } from "./reasons.ts";

/** What tasks are got with. */
export interface RunOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A start that AWS refuses because its task definition is not there any more. */
export class DefinitionGone extends Error {}

/** ECS' words for one that was deregistered, that is being deleted, and that was deleted; all are a `ClientException`. */
const noDefinition =
  /task ?definition .*(inactive|not found|does not exist)|unable to describe task definition/i;

const firstPauseMs = 1_000;
const longestPauseMs = 10_000;

/**
 * Asks AWS for a task. A quota that is used up is waited for, and said in the log; told again with the same token, AWS
 * answers with the task of the first time.
 *
 * @returns the task's ARN
 * @throws DefinitionGone; system or unavailable with AWS's reason; the signal's reason
 */
export async function runTask(
  containerId: string,
  request: RunTaskCommandInput,
  signal: AbortSignal,
  { ecs, clock, logger }: RunOptions,
): Promise<string> {
  let told = "";
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    const answer = await ask(ecs, request, signal);
    if ("arn" in answer) {
      return answer.arn;
    }
    if (!isQuota(answer.waitsFor)) {
      throw startFailure(answer.waitsFor, answer.cause);
    }
    if (answer.waitsFor !== told) {
      told = answer.waitsFor;
      logger.warn({ container: containerId }, `a container waits to be started: ${told}`);
    }
    await sleepOrSay(clock, pauseMs, signal, told);
  }
}

type Answer = { readonly arn: string } | { readonly waitsFor: string; readonly cause?: unknown };

async function ask(
  ecs: AwsService<ECSClient>,
  request: RunTaskCommandInput,
  signal: AbortSignal,
): Promise<Answer> {
  try {
    const { tasks = [], failures = [] } = await ecs.send(new RunTaskCommand(request), {
      abortSignal: signal,
    });
    const arn = tasks[0]?.taskArn;
    return arn === undefined ? { waitsFor: describeFailures(failures) } : { arn };
  } catch (error) {
    if (isAwsError(error, "ConflictException")) {
      // The token is taken by this very start, asked for differently by an earlier version of this program.
      const [arn] = error.cause instanceof ConflictException ? (error.cause.resourceIds ?? []) : [];
      if (arn !== undefined) {
        return { arn };
      }
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

function describeFailures(failures: readonly Failure[]): string {
  const said = failures.map(({ reason = "", detail = "" }) =>
    [reason, detail].filter((text) => text !== "").join(": "),
  );
  return said.length > 0 ? [...new Set(said)].join("; ") : "AWS gave no task and no reason";
}

async function sleepOrSay(clock: Clock, ms: number, signal: AbortSignal, waitsFor: string): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    throw startFailure(waitsFor, error);
  }
}
