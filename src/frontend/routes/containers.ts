/** `/containers`: everything but their streams. */
import { randomUUID } from "node:crypto";

import { create, toJson } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";

import { ownValue } from "../../common/own-value.ts";
import {
  forbidden,
  fromUnknown,
  invalid,
  isErrorKind,
  SockerlessError,
  systemError,
} from "../../common/errors.ts";
import {
  WaitCondition,
  WaitContainerRequestSchema,
  type WaitExited,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { mayRetry } from "../backend/repeated-calls.ts";
import { readBody } from "../bodies/read-body.ts";
import { containerDetailToJson, containerSummaryToJson } from "../convert/containers.ts";
import { platformFromText } from "../convert/platforms.ts";
import { readFilters } from "../filters.ts";
import type { Listening } from "../port-forwarding/publisher.ts";
import { flag, integer, terminalSize, text } from "../http/query.ts";
import { inTurn } from "../http/in-turn.ts";
import { replyEmpty, replyJson, replyLongJson } from "../http/reply.ts";
import type { ReplyContext, RequestContext } from "../request-context.ts";
import type { Route } from "../router.ts";
import type { HeldCall } from "../streams/hand-over.ts";

/** The routes of containers, in the order in which they are tried. */
export const containerRoutes: readonly Route[] = [
  { method: "GET", path: "/containers/json", handler: inTurn(getContainersJson) },
  { method: "POST", path: "/containers/create", handler: postContainersCreate },
  { method: "GET", path: "/containers/{name}/json", handler: getContainersByName },
  { method: "POST", path: "/containers/{name}/start", handler: postContainersStart },
  { method: "POST", path: "/containers/{name}/stop", handler: postContainersStop },
  { method: "POST", path: "/containers/{name}/kill", handler: postContainersKill },
  { method: "POST", path: "/containers/{name}/restart", handler: postContainersRestart },
  {
    method: "POST",
    path: "/containers/{name}/wait",
    kind: "stream",
    handsOver: { part: "answer", call: heldWait },
    handler: postContainersWait,
  },
  { method: "POST", path: "/containers/{name}/resize", handler: postContainersResize },
  { method: "DELETE", path: "/containers/{name}", handler: deleteContainers },
];

async function getContainersJson(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const { containers } = await services.backend.containers.listContainers(
    {
      all: flag(query, "all"),
      limit: integer(query, "limit") ?? 0,
      size: flag(query, "size"),
      filters: readFilters(query),
    },
    { signal },
  );
  const now = Date.now();
  await replyLongJson(
    response,
    containers.values().map((each) => containerSummaryToJson(each, version, now)),
  );
}

async function postContainersCreate(context: ReplyContext): Promise<void> {
  const { query, version, services, response } = context;
  const { fields, warnings } = await readBody(context, "createContainer");
  const platform = version.before("1.41") ? undefined : platformFromText(text(query, "platform"));
  const created = await services.backend.containers.createContainer({
    clientToken: randomUUID(),
    name: text(query, "name"),
    ...fields,
    ...(platform === undefined ? {} : { platform }),
  });
  replyJson(response, 201, { Id: created.id, Warnings: [...created.warnings, ...warnings] });
}

const inspect = inTurn(async (context: ReplyContext, unlessStarting: boolean) => {
  const { query, signal, services } = context;
  const { container } = await services.backend.containers.inspectContainer(
    // Backends of earlier versions wait for a start themselves.
    { container: nameOf(context), size: flag(query, "size"), afterStart: unlessStarting, unlessStarting },
    { signal },
  );
  if (container !== undefined) {
    replyJson(context.response, 200, containerDetailToJson(container, context.version));
  }
  return container !== undefined;
});

/** Waits for a start out of turn: others inspect other containers meanwhile. */
async function getContainersByName(context: ReplyContext): Promise<void> {
  const { signal, services } = context;
  if (!(await inspect(context, true))) {
    await services.backend.containers.awaitStart({ container: nameOf(context) }, { signal });
    await inspect(context, false);
  }
}

async function postContainersStart(context: ReplyContext): Promise<void> {
  const { request, query, signal, services, response } = context;
  const length = request.headers["content-length"];
  // Seven bytes or fewer hold no configuration: some clients send "null" or "{}".
  if (Number(length ?? 0) > 7 || request.headers["transfer-encoding"] !== undefined) {
    throw invalid(
      "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
    );
  }
  if (text(query, "checkpoint") !== "") {
    throw invalid("checkpoint is only supported in experimental mode");
  }
  if (text(query, "checkpoint-dir") !== "") {
    throw forbidden("custom checkpointdir is not supported");
  }
  const container = nameOf(context);
  const clientToken = randomUUID();
  using asked = services.pendingStarts.begin(container);
  const contextValues = createContextValues().set(mayRetry, () => !asked.hasLostOutput);
  const start = (listening?: Listening) =>
    services.backend.containers.startContainer(
      { container, clientToken, ...listening },
      { signal, contextValues },
    );
  using guarded = await services.handOver?.guard(request.socket, { container });
  try {
    await (services.publisher?.start(container, start) ?? start());
  } catch (error) {
    if (isErrorKind(error, "unavailable")) {
      guarded?.lost(); // Its client may be waiting for an exit or a removal that will not happen.
    }
    throw error;
  }
  replyEmpty(response, 204);
}

async function postContainersStop(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  // The backend is notified of a client that leaves, and continues the stop unless that has no time limit.
  await services.backend.containers.stopContainer(
    { container: nameOf(context), ...stopOptions(context) },
    { signal },
  );
  replyEmpty(response, 204);
}

async function postContainersRestart(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  const container = nameOf(context);
  const clientToken = randomUUID();
  const options = stopOptions(context);
  const restart = (listening?: Listening) =>
    services.backend.containers.restartContainer(
      { container, clientToken, ...options, ...listening },
      { signal },
    );
  await (services.publisher?.start(container, restart) ?? restart());
  replyEmpty(response, 204);
}

async function postContainersKill(context: ReplyContext): Promise<void> {
  const { query, signal: left, services, response } = context;
  const container = nameOf(context);
  try {
    const signal = text(query, "signal");
    await services.backend.containers.killContainer({ container, signal }, { signal: left });
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    const prefix = `cannot kill container: ${container}: `;
    throw new SockerlessError(kind, message.startsWith(prefix) ? message : `${prefix}${message}`, error);
  }
  replyEmpty(response, 204);
}

async function deleteContainers(context: ReplyContext): Promise<void> {
  const { query, signal, services, response } = context;
  await services.backend.containers.removeContainer(
    {
      container: nameOf(context),
      force: flag(query, "force"),
      volumes: flag(query, "v"),
      link: flag(query, "link"),
    },
    { signal },
  );
  replyEmpty(response, 204);
}

async function postContainersResize(context: ReplyContext): Promise<void> {
  const { query, services, signal, response } = context;
  const height = terminalSize(query, "h", "height");
  const width = terminalSize(query, "w", "width");
  await services.backend.containers.resizeContainer(
    { container: nameOf(context), height, width },
    { signal },
  );
  replyEmpty(response, 200);
}

const waitConditions: Readonly<Record<string, WaitCondition>> = {
  "": WaitCondition.NOT_RUNNING,
  "not-running": WaitCondition.NOT_RUNNING,
  "next-exit": WaitCondition.NEXT_EXIT,
  removed: WaitCondition.REMOVED,
};

/** The forwarder's wait, which sends its header at once, and reports a removal that failed. */
async function heldWait({ parameters, query, version }: RequestContext): Promise<HeldCall | undefined> {
  const condition = ownValue(waitConditions, text(query, "condition"));
  if (condition === undefined || !version.atLeast("1.34")) {
    return undefined;
  }
  const wait = create(WaitContainerRequestSchema, { container: parameters["name"] ?? "", condition });
  return {
    kind: "wait",
    request: toJson(WaitContainerRequestSchema, wait),
    contentType: "application/json",
  };
}

/**
 * Writes the header once the wait is registered, as the CLI then starts the container; the body follows at the exit.
 */
async function postContainersWait(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const hasCondition = version.atLeast("1.30");
  const asked = hasCondition ? text(query, "condition") : "";
  const condition = ownValue(waitConditions, asked);
  if (condition === undefined) {
    throw invalid(`invalid condition: ${JSON.stringify(asked)}`);
  }
  const messages = services.backend.containers.waitContainer(
    { container: nameOf(context), condition },
    { signal },
  );
  let id = "";
  for await (const { message } of messages) {
    if (message.case === "accepted") {
      id = message.value.id;
      if (hasCondition) {
        response.writeHead(200, { "Content-Type": "application/json" });
        response.flushHeaders();
      }
    } else if (message.case === "exited") {
      const isSuccess = message.value.error === "";
      if (isSuccess && (await services.openAttachments.losesOutput(id, signal))) {
        throw systemError("output of the container was lost");
      }
      endWait(context, message.value, condition);
      return;
    }
  }
  throw systemError("the backend ended a wait without telling the exit");
}

function endWait({ version, response }: ReplyContext, exited: WaitExited, condition: WaitCondition): void {
  if (!response.headersSent) {
    response.writeHead(200, { "Content-Type": "application/json" });
  }
  if (exited.error !== "" && condition === WaitCondition.REMOVED && version.before("1.34")) {
    response.end(); // An empty answer tells such a client that the removal failed.
    return;
  }
  const failure = exited.error === "" ? {} : { Error: { Message: exited.error } };
  response.end(`${JSON.stringify({ ...failure, StatusCode: Number(exited.exitCode) })}\n`);
}

interface StopOptions {
  /** Negative for no limit; absent for the container's setting. */
  readonly timeoutSeconds?: number;
  readonly signal: string;
}

function stopOptions({ query, version }: ReplyContext): StopOptions {
  const timeoutSeconds = integer(query, "t");
  return {
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    signal: version.atLeast("1.42") ? text(query, "signal") : "",
  };
}

function nameOf({ parameters }: ReplyContext): string {
  return parameters["name"] ?? "";
}
