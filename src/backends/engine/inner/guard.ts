/** Enforces the rules for calls on behalf of a client at a container's Docker socket. */
import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";

import { actingContainerHeader } from "../../../common/acting-container.ts";
import { invalid } from "../../../common/errors.ts";
import type { EngineContext } from "../context.ts";
import { PulledImages } from "./pulled-images.ts";
import { Realm } from "./realm.ts";
import { type Admitted, ruleOf } from "./rules.ts";

type Show = Admitted["show"] | undefined;

/** Creates the guard of a backend. Calls without the header pass. */
export function guardInnerSockets(context: EngineContext): Interceptor {
  const pulled = new PulledImages((id) => context.state.containers.has(id));
  return (next) => async (request) => {
    const acting = request.header.get(actingContainerHeader);
    if (acting === null) {
      return await next(request);
    }
    const rule = ruleOf(request.method);
    const realm = new Realm(context, pulled, acting);
    if (request.stream) {
      const message = await onlyMessage(request.message);
      const { show } = (await rule(realm, message)) ?? {};
      const response = await next({ ...request, message: streamOf(message) });
      return response.stream ? { ...response, message: shownEach(response.message, show) } : response;
    }
    const { show } = (await rule(realm, request.message)) ?? {};
    const response = await next(request);
    if (response.stream || show === undefined) {
      return response;
    }
    return { ...response, message: (await show(response.message)) ?? response.message };
  };
}

async function onlyMessage(messages: AsyncIterable<Message>): Promise<Message> {
  for await (const message of messages) {
    return message;
  }
  throw invalid("a call without a request");
}

async function* streamOf(message: Message): AsyncGenerator<Message> {
  yield message;
}

async function* shownEach(messages: AsyncIterable<Message>, show: Show): AsyncGenerator<Message> {
  for await (const message of messages) {
    const shown = show === undefined ? message : await show(message);
    if (shown !== undefined) {
      yield shown;
    }
  }
}
