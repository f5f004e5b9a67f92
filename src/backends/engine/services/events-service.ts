/** RPC implementation of EventsService. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";

import {
  type EventsService,
  type SubscribeEventsRequest,
  type SubscribeEventsResponse,
  SubscribeEventsResponseSchema,
} from "../../../gen/sockerless/backend/v1/events_pb.ts";
import type { EngineContext } from "../context.ts";
import { eventFilter } from "../events/decisions/event-filters.ts";
import { subscribe } from "../events/subscribe.ts";
import { withHeartbeats } from "../../concurrency/heartbeats.ts";

/** Implements the service for an engine. */
export function eventsService(context: EngineContext): ServiceImpl<typeof EventsService> {
  return { subscribeEvents: (request, call) => subscribeEvents(context, request, call) };
}

async function* subscribeEvents(
  context: EngineContext,
  request: SubscribeEventsRequest,
  call: HandlerContext,
): AsyncGenerator<SubscribeEventsResponse> {
  const signal = AbortSignal.any([call.signal, context.shutdown]);
  const events = subscribe(
    context.state.events,
    context.clock,
    {
      sinceNs: request.sinceUnixNs,
      untilNs: request.untilUnixNs,
      wants: eventFilter(request.filters),
    },
    signal,
  );
  async function* messages(): AsyncGenerator<SubscribeEventsResponse> {
    yield create(SubscribeEventsResponseSchema, { message: { case: "accepted", value: {} } });
    for await (const event of events) {
      yield create(SubscribeEventsResponseSchema, { message: { case: "event", value: event } });
    }
    signal.throwIfAborted(); // A stream that was cut must not end normally.
    yield create(SubscribeEventsResponseSchema, { message: { case: "end", value: {} } });
  }
  yield* withHeartbeats(
    messages(),
    () => create(SubscribeEventsResponseSchema, { message: { case: "heartbeat", value: {} } }),
    context.clock,
    signal,
  );
}
