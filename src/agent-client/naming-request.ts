/** Tells calls of the library which request they are part of, and reports them. */
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

import { processCalled } from "../common/metrics/measure.ts";
import { requestIdHeaders } from "../common/request-id.ts";
import { traceHeaders } from "../common/tracing.ts";

/** Adds the headers of the current request, if there is one. */
export const namingRequest: Interceptor = (next) => async (request) => {
  for (const [name, value] of Object.entries({ ...requestIdHeaders(), ...traceHeaders() })) {
    request.header.set(name, value);
  }
  const begun = performance.now();
  const report = (failure: string | undefined): void =>
    processCalled.report(() => ({
      method: `${request.service.typeName}/${request.method.name}`,
      seconds: (performance.now() - begun) / 1000,
      failure,
    }));
  try {
    const answer = await next(request);
    report(undefined);
    return answer;
  } catch (error) {
    const { code } = ConnectError.from(error);
    report(answers.has(code) ? undefined : Code[code]);
    throw error;
  }
};

/** Errors that are an answer: there is no such thing, or it is not in that state. */
const answers: ReadonlySet<Code> = new Set([
  Code.NotFound,
  Code.AlreadyExists,
  Code.FailedPrecondition,
  Code.InvalidArgument,
  Code.Unimplemented,
  Code.Canceled,
]);
