/**
 * Watching a model compute: while a probe is set, each call of `forward` of some modules or segments goes through it.
 *
 * Callers write `module.forward(x)` and nothing else. A probed object has a `forward` of its own, which JavaScript finds before that
 * of its class and which leads through the probe; it goes with the probe. So a model without a probe pays nothing, and a probe
 * belongs to the objects that it watches, never to the process.
 */

/** A call that a probe stands around. */
export interface ProbedCall {
  /** Of the module or segment. */
  readonly name: string;
  /** The module or segment; an adapter has the name of the layer that it stands in. */
  readonly target: object;
  /** What `forward` was given. */
  readonly inputs: readonly unknown[];
  /** Computes the result. */
  run(): unknown;
}

/** Runs the call, and returns its result. */
export type Probe = (call: ProbedCall) => unknown;

interface Computes {
  forward(...inputs: unknown[]): unknown;
}

/**
 * Sets a probe until the result is disposed; of several on one object the latest is the outermost, and goes first.
 *
 * @param named modules as `namedModules` lists them, or segments with their names; what has no `forward` is left alone
 */
export function probe(
  named: Iterable<readonly [name: string, target: object]>,
  watch: Probe,
): Disposable {
  const probed: (readonly [Computes, PropertyDescriptor | undefined])[] = [];
  for (const [name, target] of named) {
    if (!computes(target)) continue;
    probed.push([target, Object.getOwnPropertyDescriptor(target, 'forward')]);
    const forward = target.forward;
    target.forward = (...inputs) =>
      watch({ name, target, inputs, run: () => forward.apply(target, inputs) });
  }
  return {
    [Symbol.dispose]() {
      for (const [target, before] of probed) {
        if (before === undefined) delete (target as Partial<Computes>).forward;
        else Object.defineProperty(target, 'forward', before);
      }
    },
  };
}

function computes(target: object): target is Computes {
  return 'forward' in target;
}
