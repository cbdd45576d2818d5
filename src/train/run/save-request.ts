/** How a process that trains is asked, from outside, for a checkpoint after the update that is under way. */

/** It is raised in the process that holds the run; what nobody listens to would end it. */
export const SAVE_SIGNAL = 'SIGUSR2';

/** Listens until disposed. */
export class SaveRequests implements Disposable {
  /** How many there were. */
  count = 0;
  private readonly hear = (): void => {
    this.count++;
  };

  constructor() {
    process.on(SAVE_SIGNAL, this.hear);
  }

  [Symbol.dispose](): void {
    process.off(SAVE_SIGNAL, this.hear);
  }
}
