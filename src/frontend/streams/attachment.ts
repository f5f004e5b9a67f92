/** The backend's side of attaching to a container that may not run yet. */
import { isErrorKind, systemError } from "../../common/errors.ts";
import {
  type AttachAccepted,
  type AttachContainerResponse,
  type AttachEndpoint,
  ContainerStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { RequestContext } from "../request-context.ts";

/** Requested streams of the main process. */
export interface WantedStreams {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Whether to replay recorded output first. */
  readonly logs: boolean;
  /** Whether to follow new output until the process ends. */
  readonly stream: boolean;
}

/** The backend's answers to one attach call. */
export class Attachment {
  readonly accepted: AttachAccepted;
  readonly #responses: AsyncIterator<AttachContainerResponse>;
  readonly #call: AbortController;

  /**
   * Reserves an attachment, until the context's signal aborts or {@link cancel} is called.
   *
   * @throws ConnectError if the container does not exist or cannot be attached to
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
   * Waits until the container runs, for the endpoint that serves the attachment.
   *
   * @returns undefined if it never will: the container was removed, its start failed, or the attachment was cancelled.
   *   The client that asked for the start is told why; dockerd ends attachments without a word.
   * @throws ConnectError if the backend was lost, which a call may also report as cancelled
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

  /** Cancels a reservation that has not been used. May be called again. */
  cancel(): void {
    this.#call.abort(new Error("the attachment is not needed any more"));
  }
}

/**
 * True if the container has a process that could be attached to.
 *
 * @throws ConnectError if that cannot be known
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
