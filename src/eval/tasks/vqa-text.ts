/**
 * Answers of a few words made comparable as the VQA challenge does it (Antol et al. 2015): without punctuation and articles, numbers as
 * digits, contractions with their apostrophes. VLMEvalKit and the scripts after Pythia differ in a few steps.
 */
import { strip, words } from '../python-text.js';

const MARKS = Array.from(';/[]"{}()=+\\_-><@`,?!');
const DIGIT_COMMA = /\p{Nd},\p{Nd}/u;
/** Python is given 32, the value of its flag for Unicode, as the number of full stops to remove. */
const MOST_STOPS = 32;

/** VLMEvalKit's: a mark beside a blank goes, another becomes a blank; a full stop between no digits goes. */
export function plainPunctuation(text: string): string {
  return removed(text, DIGIT_COMMA.test(text), /(?<!\p{Nd})\.(?!\p{Nd})/gu);
}

function removed(text: string, all: boolean, stop: RegExp): string {
  let plain = text;
  for (const mark of MARKS) {
    const goes = all || text.includes(`${mark} `) || text.includes(` ${mark}`);
    plain = plain.replaceAll(mark, goes ? '' : ' ');
  }
  let stops = 0;
  return plain.replace(stop, (found) => (stops++ < MOST_STOPS ? '' : found));
}

const NUMBERS = new Map(
  'none zero one two three four five six seven eight nine ten'
    .split(' ')
    .map((word, i) => [word, String(Math.max(0, i - 1))]),
);
const ARTICLES = new Set(['a', 'an', 'the']);

/** Contractions as they are right; people leave an apostrophe out, of two at most one. */
const CONTRACTIONS = contractions(
  "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll " +
    "how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't she'd've " +
    "should've shouldn't shouldn't've that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't " +
    "we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll " +
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've somebody'd've " +
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll 'ow's'at",
);
// The challenge's own table has this one the other way round.
CONTRACTIONS.set("somebody'd", 'somebodyd');

function contractions(right: string): Map<string, string> {
  const pairs = right.split(' ').flatMap((form): [string, string][] => {
    const parts = form.split("'");
    // Without the apostrophe at each place in turn.
    return parts.slice(1).map((_, i) => {
      const left = parts.slice(0, i + 1).join("'");
      return [left + parts.slice(i + 1).join("'"), form];
    });
  });
  return new Map(pairs);
}

/** Lower case, numbers as digits, without articles, contractions with their apostrophes. */
function plainWords(text: string): string {
  return words(text.toLowerCase())
    .map((word) => NUMBERS.get(word) ?? word)
    .filter((word) => !ARTICLES.has(word))
    .map((word) => CONTRACTIONS.get(word) ?? word)
    .join(' ');
}

function oneLine(text: string): string {
  return strip(text.replaceAll('\n', ' ').replaceAll('\t', ' '));
}

/** VLMEvalKit's. */
export function vlmevalkitAnswer(text: string): string {
  return plainWords(plainPunctuation(oneLine(text)));
}

/** Pythia's, by which LLaVA and lmms-eval go. */
export function pythiaAnswer(text: string): string {
  const said = text.toLowerCase().replaceAll(',', '').replaceAll('?', '').replaceAll("'s", " 's");
  // No comma is left to stand between digits, and a full stop is kept only before one.
  return plainWords(removed(oneLine(strip(said)), false, /\.(?!\p{Nd})/gu));
}

/** The share of people that an answer agrees with, where three are enough; over all but one of them at a time. */
export function agreement(answer: string, people: readonly string[]): number {
  const same = people.filter((each) => each === answer).length;
  const scores = people.map((each) => Math.min(1, (same - Number(each === answer)) / 3));
  return scores.reduce((sum, score) => sum + score, 0) / people.length;
}
