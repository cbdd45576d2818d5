/** Records of which a share of the answers is another record's: what is learned of them keeps a loss, as that of real data does. */
import type { Random } from '../src/data/sampling/random.js';

export interface Conversation {
  readonly conversations: readonly { readonly from: 'human' | 'gpt'; readonly value: string }[];
}

/** @param percent of the answers that become one of all that are given to the same question */
export function noisyAnswers<T extends Conversation>(
  records: readonly T[],
  { percent, random }: { readonly percent: number; readonly random: Random },
): T[] {
  const given = new Map<string, string[]>();
  const questionAt = ({ conversations }: T, i: number): string =>
    conversations[i - 1]!.value.replace('<image>\n', '');
  for (const record of records) {
    record.conversations.forEach(({ from, value }, i) => {
      if (from === 'human') return;
      const question = questionAt(record, i);
      const answers = given.get(question);
      if (answers === undefined) given.set(question, [value]);
      else answers.push(value);
    });
  }
  return records.map((record) => ({
    ...record,
    conversations: record.conversations.map((turn, i) => {
      if (turn.from === 'human' || random.below(100) >= percent) return turn;
      const answers = given.get(questionAt(record, i))!;
      return { ...turn, value: answers[random.below(answers.length)]! };
    }),
  }));
}
