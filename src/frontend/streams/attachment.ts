/** Attaching to a container that may not be running yet: the backend's side of it. */
import { isErrorKind, systemError } from "../../common/errors.ts";
import {
  type AttachAccepted,
  type AttachContainerResponse,
  type AttachEndpoint,
  ContainerStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { RequestContext } from "../request-context.ts";

/** Streams of the main process that are wanted. */
export interface WantedStreams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** The output that was recorded so far, first. */
  readonly logs: boolean;
  /** The output to come, until the process ends. */
  readonly stream: boolean;
}

/** The backend's answers to one attach call. */
export class Attachment {
  readonly accepted: AttachAccepted;
  readonly #responses: AsyncIterator<AttachContainerResponse>;
  readonly #call: AbortController;

  /**
   * Reserves an attachment. It is given up when the context's signal aborts, or by {@link cancel}.
   *
   * @throws ConnectError where the container does not exist or cannot be attached to
   */
  static async reserve(
    { services, signal }: Pick<RequestContext, "services" | "signal">,
    container: string,
    wanted: WantedStreams,
  ): Promise<Attachment> {
    const call = new AbortController();
    const responses = services.backend.containers
      .attachContainer(
        { container, ...wanted, access: services.agents.access },
        { signal: AbortSignal.any([signal, call.signal]) },
      )
      [Symbol.asyncIterator]();
    const first = await nextOf(responses);
    if (first?.message.case !== "accepted") {
      call.abort();
      throw systemError("the backend did not say whether it takes the attachment");
    }
    return new Attachment(first.message.value, responses, call);
  }

  private constructor(
    accepted: AttachAccepted,
    responses: AsyncIterator<AttachContainerResponse>,
    call: AbortController,
  ) {
    this.accepted = accepted;
    this.#responses = responses;
    this.#call = call;
  }

  /**
   * Waits for the place where the attachment is served, once the container runs.
   *
   * @returns undefined when it never will: the container was removed, its start failed, or the attachment was given up.
   *   The client that asked for the start is told why; dockerd ends attachments without a word.
   * @throws ConnectError when the backend was lost, which a call may tell as cancelled too
   */
  async endpoint(): Promise<AttachEndpoint | undefined> {
    for (;;) {
      const response = await nextOf(this.#responses).catch((error: unknown) => {
        if (!isErrorKind(error, "conflict") && !this.#call.signal.aborted) {
          throw error;
        }
        return undefined;
      });
      if (response === undefined || response.message.case === "endpoint") {
        this.cancel();
        return response?.message.case === "endpoint" ? response.message.value : undefined;
      }
    }
  }

  /** Gives a reservation up that has not been used. May be called again. */
  cancel(): void {
    this.#call.abort(new Error("the attachment is not needed any more"));
  }
}

/**
 * True if the container has a process that could be attached to.
 *
 * @throws ConnectError when that cannot be known
 */
export async function isContainerUp(
  { services, signal }: Pick<RequestContext, "services" | "signal">,
  container: string,
): Promise<boolean> {
  try {
    const response = await services.backend.containers.inspectContainer({ container }, { signal });
    const status = response.container?.state?.status;
    return status === ContainerStatus.RUNNING || status === ContainerStatus.PAUSED;
  } catch (error) {
    if (!isErrorKind(error, "not-found")) {
      throw error;
    }
    return false;
  }
}

async function nextOf<Value>(iterator: AsyncIterator<Value>): Promise<Value | undefined> {
  const result = await iterator.next();
  return result.done === true ? undefined : result.value;
}
