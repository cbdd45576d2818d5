import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { DataError } from '../base/errors.js';
import { cases } from '../base/testing.js';
import { compileTemplate, GENERATION_END, GENERATION_START } from './jinja.js';

const render = (source: string, variables: Record<string, unknown> = {}, now?: Date): string =>
  compileTemplate(source, { name: 'test', now }).render(variables);

/** The error that rendering ends with. */
function failure(source: string): unknown {
  try {
    render(source, { messages: [{ role: 'user', content: 'x' }] });
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('a template', () => {
  it('strips as Python does', () => {
    const x = '\u0085\u001c \ufeffa\ufeff\u2003\n';
    expect(render('{{ x | trim }}', { x })).toBe('\ufeffa\ufeff');
    expect(render('{{ x.strip() }}', { x })).toBe('\ufeffa\ufeff');
    expect(render('{{ x.lstrip() }}', { x })).toBe('\ufeffa\ufeff\u2003\n');
    expect(render('{{ x.rstrip() }}', { x })).toBe('\u0085\u001c \ufeffa\ufeff');
    expect(render("{{ x.strip('\\n -') }}", { x: '\n- a-b -\n' })).toBe('a-b');
    expect(render("{{ x.rstrip('😀') }}", { x: 'a😀😀' })).toBe('a');
    expect(render('{{ [1, 2] | first }}{{ 3 | abs }}')).toBe('13');
  });

  it('compares as Python does', () => {
    const truth = (expression: string, x: unknown = ''): boolean =>
      render(`{{ 'yes' if ${expression} else 'no' }}`, { x }) === 'yes';
    // JavaScript's == holds '', blanks, false and 0 equal; Llama 2's template asks `system_message != false`.
    for (const x of ['', ' \n', '0']) expect(truth('x == false or x == 0', x)).toBe(false);
    expect(truth("x != false and '1' != 1 and x != none and nothing != none")).toBe(true);
    expect(truth('1 == true and 0 == false and 1.0 == 1 and none == none')).toBe(true);
    expect(truth("[1, 'a'] == [1.0, 'a'] and [1] != [2] and [1] != [1, 2]")).toBe(true);
    expect(truth("{'a': [1]} == {'a': [1]} and {'a': 1} != {'b': 1} and {} != []")).toBe(true);
  });

  it('counts the code points of a text', () => {
    expect(render('{{ x | length }} {{ [x, x] | length }}', { x: '😀a' })).toBe('2 2');
  });

  it('gives blocks the blanks of transformers', () => {
    const source = '{% if true %}\n  a\n  {%- if true %}\nb{% endif %}\n{% endif %}\n';
    expect(render(source)).toBe('  ab');
  });

  it('marks generation when asked, and keeps its blanks', () => {
    const source =
      'a \n {%- generation -%} \n b {% endgeneration %}\nc{% generation %}d{% endgeneration %}';
    const template = compileTemplate(source, { name: 'test' });
    expect(template.hasGenerationTags).toBe(true);
    expect(template.render({})).toBe('ab cd');
    expect(template.render({}, { generation: true })).toBe(
      `a${GENERATION_START}b ${GENERATION_END}c${GENERATION_START}d${GENERATION_END}`,
    );
  });

  it('knows a date only if it is given one', () => {
    const source =
      "{{ strftime_now('%d %b %Y %B %A %H:%M:%S %%') if strftime_now is defined else 'none' }}";
    expect(render(source)).toBe('none');
    expect(render(source, {}, new Date(2024, 6, 3, 4, 5, 6))).toBe(
      '03 Jul 2024 July Wednesday 04:05:06 %',
    );
  });

  it('counts', () => {
    expect(render('{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}')).toBe('25');
    expect(render('{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}')).toBe('321');
    expect(render('{% for i in range(2) %}{{ i }}{% endfor %}')).toBe('01');
  });
});

describe('what fails is typed and ends', () => {
  it.each([
    ['E_TEMPLATE_SYNTAX', '{% for %}'],
    ['E_TEMPLATE_SYNTAX', '{{ "a" '],
    ['E_TEMPLATE_REFUSED', "{{ raise_exception('No system role.') }}"],
    ['E_TEMPLATE_FAILED', '{{ nothing() }}'],
    ['E_TEMPLATE_FAILED', '{{ messages | nonsense }}'],
    ['E_TEMPLATE_FAILED', '{% for i in range(0, 5, 0) %}{% endfor %}'],
    ['E_TEMPLATE_FAILED', '{% for i in range(1000000000) %}{% endfor %}'],
    ['E_TEMPLATE_FAILED', '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'],
    [
      'E_TEMPLATE_FAILED',
      '{% set n = namespace(s="aaaaaaaaaa") %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}',
    ],
    [
      'E_TEMPLATE_FAILED',
      `${'{% for i in range(900) %}'.repeat(3)}{{ i }}${'{% endfor %}'.repeat(3)}`,
    ],
  ])('%s: %s', (code, source) => {
    const error = failure(source);
    expect(error).toMatchObject({ code });
    expect(error).toBeInstanceOf(DataError);
  });

  it('says what the template says', () => {
    expect(failure("{{ raise_exception('No system role.') }}")).toMatchObject({
      message: 'Chat template test refuses the conversation: No system role.',
    });
  });

  it('random templates', () => {
    const word = fc.constantFrom(
      ...[
        '{{',
        '}}',
        '{%',
        '%}',
        '{%-',
        '-%}',
        '{#',
        '#}',
        ' for m in messages ',
        ' endfor ',
        ' if ',
        ' endif ',
        ' else ',
      ],
      ...[
        ' set x = ',
        ' m.role ',
        ' messages ',
        "['content']",
        ' | trim ',
        '.strip(',
        ')',
        "'a'",
        ' generation ',
        ' endgeneration ',
      ],
      ...[
        ' loop.index0 ',
        ' + ',
        ' ~ ',
        ' == ',
        ' range(9) ',
        ' is defined ',
        ' macro f(a) ',
        ' endmacro ',
        ' x ',
        '\n',
        ' not ',
        '1',
        '[',
        ']',
      ],
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 30 }), (words) => {
        const error = failure(words.join(''));
        if (error !== undefined) expect(error).toBeInstanceOf(DataError);
      }),
      { numRuns: cases(100) },
    );
  });
});
