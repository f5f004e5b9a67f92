import type { CallLog, LoggedCall } from "../calls.ts";
import type { SimulatedClock } from "../clock.ts";
import { ConnectionCut, type WireAnswer } from "./http-endpoint.ts";

/** The part of a logged call that becomes known while it is answered. */
export type Asked = { -readonly [Key in "service" | "operation" | "principal" | "input"]: LoggedCall[Key] };

/**
 * Answers a request and logs it, however it ends.
 *
 * @param refusal the answer to an error, with the error's code
 * @throws ConnectionCut on demand
 */
export async function answerAndLog(
  { clock, calls }: { readonly clock: SimulatedClock; readonly calls: CallLog },
  requestId: string,
  asked: Asked,
  work: () => Promise<WireAnswer>,
  refusal: (error: unknown) => WireAnswer & { readonly code: string },
): Promise<WireAnswer> {
  const startedAt = performance.now();
  const at = clock.nowMs();
  const record = (status: number, error?: string): void => {
    const tookMs = performance.now() - startedAt;
    calls.record({ ...asked, requestId, at, status, tookMs, ...(error !== undefined && { error }) });
  };
  try {
    const answer = await work();
    record(answer.status);
    return answer;
  } catch (error) {
    if (error instanceof ConnectionCut) {
      record(0, "connection cut");
      throw error;
    }
    const { code, ...answer } = refusal(error);
    record(answer.status, code);
    return answer;
  }
}
