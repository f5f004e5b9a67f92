/** Adds the current request's ID to calls of the library. */
import type { Interceptor } from "@connectrpc/connect";

import { requestIdHeaders } from "../common/request-id.ts";

/** Adds the header of the current request, if there is one. */
export const namingRequest: Interceptor = (next) => (request) => {
  for (const [name, value] of Object.entries(requestIdHeaders())) {
    request.header.set(name, value);
  }
  return next(request);
};
