/** A client of AWS for unit tests: each operation is a function. */
import { AwsError, type AwsServiceName } from "../aws/errors.ts";

/** A command's input; tests know its shape. */
export type Input = Readonly<Record<string, unknown>>;

/** A call that was made. */
export interface Call {
  readonly operation: string;
  readonly input: Input;
}

/** A service's operations by name: each returns its answer, or throws a refusal. */
export type Operations = Readonly<Record<string, (input: Input) => unknown>>;

/**
 * A client whose operations are these functions. Anything else that is called fails.
 *
 * @param Client as the code under test takes it
 */
export function fakeClient<Client>(operations: Operations): {
  readonly client: Client;
  readonly calls: Call[];
  readonly made: (operation: string) => Input[];
} {
  const calls: Call[] = [];
  const client = {
    send: async (command: { constructor: { name: string }; input: Input }) => {
      const operation = command.constructor.name.replace(/Command$/, "");
      calls.push({ operation, input: command.input });
      const answer = operations[operation];
      if (answer === undefined) {
        throw new Error(`unexpected call of ${operation}`);
      }
      return await answer(command.input);
    },
  } as Client;
  const made = (operation: string): Input[] =>
    calls.filter((call) => call.operation === operation).map(({ input }) => input);
  return { client, calls, made };
}

/** Makes a {@link refusal} an answer that was cut in its body: AWS has done what it was told. */
export const answered = { $metadata: { httpStatusCode: 200 } };

/** A call that has not reached AWS, as the clients throw it. */
export function unanswered(
  service: AwsServiceName,
  operation: string,
  name: string,
  message: string,
): AwsError {
  return new AwsError({ service, operation }, Object.assign(new Error(message), { name }));
}

/** A refusal as the clients throw it. */
export function refusal(
  service: AwsServiceName,
  operation: string,
  name: string,
  message = "refused",
  more: object = {},
): AwsError {
  const cause = Object.assign(new Error(message), { name, $metadata: { httpStatusCode: 400 }, ...more });
  return new AwsError({ service, operation }, cause);
}
