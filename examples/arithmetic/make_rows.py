"""Writes rows.jsonl: arithmetic word problems from templates, split by template.

One row a template: no wording of a test row was ever scored in the search, and no two rows of a
split are the same question in other numbers, so an interval over n rows is one over n problems. The
numbers and names are drawn from a fixed seed: running this again writes the same file.

    python examples/arithmetic/make_rows.py
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

NAMES: Final = ("Alma", "Boris", "Chloe", "Dario", "Edith", "Felix", "Greta", "Henry", "Irene")
SEED: Final = 20261122

Numbers = tuple[int, int, int]
Answer = Callable[[int, int, int], float]


class Template(NamedTuple):
    """A wording with two or three numbers; without a third, c is 0.

    Attributes:
        text: The problem; `{n}` is a name, `{a}`, `{b}`, `{c}` are numbers.
        answer: The answer from the numbers, in the order a, b, c.
        low: The smallest value of each number.
        high: The largest value of each number.
    """

    text: str
    answer: Answer
    low: Numbers
    high: Numbers


def two_numbers(
    text: str,
    answer: Callable[[int, int], float],
    low: tuple[int, int],
    high: tuple[int, int],
) -> Template:
    """One step."""

    def of_three(a: int, b: int, _: int) -> float:
        return answer(a, b)

    return Template(text, of_three, (*low, 0), (*high, 0))


def plus(text: str) -> Template:
    """A sum."""
    return two_numbers(text, lambda a, b: a + b, (5, 4), (60, 40))


def minus(text: str) -> Template:
    """A difference."""
    return two_numbers(text, lambda a, b: a - b, (20, 3), (95, 60))


def minus_turned(text: str) -> Template:
    """A difference that names the smaller number first."""
    return two_numbers(text, lambda a, b: b - a, (3, 20), (60, 95))


def times(text: str) -> Template:
    """A product."""
    return two_numbers(text, lambda a, b: a * b, (3, 3), (15, 14))


def over(text: str) -> Template:
    """A quotient."""
    return two_numbers(text, lambda a, b: a / b, (12, 2), (120, 12))


def over_turned(text: str) -> Template:
    """A quotient that names the divisor first."""
    return two_numbers(text, lambda a, b: b / a, (2, 12), (12, 120))


def chain(text: str, answer: Answer) -> Template:
    """Two steps that begin with a large number."""
    return Template(text, answer, (25, 3, 2), (80, 19, 15))


def groups(text: str, answer: Answer) -> Template:
    """Two steps that begin with groups of equal size."""
    return Template(text, answer, (3, 3, 2), (12, 12, 15))


TEMPLATES: Final[dict[str, list[Template]]] = {
    "validation": [
        plus("{n} has {a} red beads and {b} yellow beads. How many beads does {n} have?"),
        plus("A cafe sold {a} teas and {b} coffees today. How many drinks did it sell?"),
        plus("{n} scored {a} points in the first game and {b} in the second. What was the total?"),
        plus("A tree was {a} feet tall and grew {b} feet. How tall is the tree now?"),
        plus("There are {a} ducks on the pond and {b} more ducks land. How many ducks are there?"),
        minus("{n} baked {a} rolls and gave {b} to the neighbours. How many rolls are left?"),
        minus("A car park has {a} spaces and {b} are taken. How many spaces are free?"),
        minus("{n} had {a} dollars and spent {b} dollars on a jacket. How much money is left?"),
        minus("A book has {a} pages. {n} has read {b} pages. How many pages are left to read?"),
        minus_turned("{n} has {a} points and needs {b} points to win. How many more are needed?"),
        times("A carton holds {a} eggs. How many eggs are in {b} cartons?"),
        times("A concert ticket costs {a} dollars. How much do {b} tickets cost?"),
        times("{n} runs {a} miles every morning. How many miles does {n} run in {b} days?"),
        times("There are {a} shelves with {b} books on each shelf. How many books are there?"),
        times("{n} earns {a} dollars an hour and works {b} hours. How much does {n} earn?"),
        over("{a} sweets are shared equally by {b} children. How many sweets does each child get?"),
        over("{n} packs {a} apples into bags of {b}. How many bags does {n} fill?"),
        over("A ribbon of {a} inches is cut into {b} equal pieces. How long is each piece?"),
        over("{a} dollars are split equally among {b} friends. How much does each friend get?"),
        over_turned("{a} identical chairs cost {b} dollars together. What does one chair cost?"),
        groups(
            "{n} buys {a} bags with {b} lemons each and uses {c} lemons. How many are left?",
            lambda a, b, c: a * b - c,
        ),
        chain(
            "{n} had {a} coins, found {b} more and then lost {c}. How many coins are left?",
            lambda a, b, c: a + b - c,
        ),
        chain(
            "{n} has {a} dollars and buys {b} toys for {c} dollars each. How much is left?",
            lambda a, b, c: a - b * c,
        ),
        chain(
            "A school has {a} boys, {b} girls and {c} teachers. How many people are there?",
            lambda a, b, c: a + b + c,
        ),
    ],
    "selection": [
        plus("{n} caught {a} fish on Friday and {b} fish on Sunday. How many fish in total?"),
        plus("A shelf holds {a} cans of soup and {b} cans of beans. How many cans are on it?"),
        plus("{n} weighs {a} kilos and a dog weighs {b} kilos. What do they weigh together?"),
        minus("A shop had {a} umbrellas and sold {b} of them. How many umbrellas remain?"),
        minus("{n} picked {a} cherries and ate {b}. How many cherries does {n} have left?"),
        minus("A string is {a} metres long. {n} cuts off {b} metres. How long is the string now?"),
        times("Each table seats {a} guests. How many guests can sit at {b} tables?"),
        times("A puzzle costs {a} dollars. {n} buys {b} puzzles. How much does {n} pay?"),
        times("A snail crawls {a} feet in an hour. How far does it crawl in {b} hours?"),
        over("{a} balloons are divided equally among {b} kids. How many does each kid get?"),
        over("{n} puts {a} stickers on pages of {b} stickers each. How many pages are filled?"),
        over("A coach forms {b} equal teams from {a} swimmers. How many swimmers are in a team?"),
        over("{n} reads {a} pages in {b} days, the same number every day. How many pages a day?"),
        groups(
            "A baker fills {a} trays with {b} buns each and sells {c} buns. How many are left?",
            lambda a, b, c: a * b - c,
        ),
        chain(
            "There were {a} frogs in a pond. {b} hopped away and {c} came. How many are there now?",
            lambda a, b, c: a - b + c,
        ),
        groups(
            "{n} has {a} albums with {b} photos each and {c} loose photos. How many is that?",
            lambda a, b, c: a * b + c,
        ),
    ],
    "test": [
        plus("{n} found {a} acorns and {b} pine cones. How many things did {n} find?"),
        plus("A band played {a} songs before the break and {b} after it. How many did it play?"),
        plus("{n} drove {a} miles to the sea and {b} miles to the hills. How many miles is that?"),
        plus("There are {a} forks and {b} spoons in a drawer. How many pieces are in the drawer?"),
        plus("A kitten had {a} toys and got {b} new ones. How many toys does it have now?"),
        plus("{n} paid {a} dollars for shoes and {b} dollars for a belt. How much is that in all?"),
        plus("A choir has {a} women and {b} men. How many singers are in the choir?"),
        plus(
            "It rained {a} days in spring and {b} days in summer. How many rainy days were there?"
        ),
        plus("{n} is {a} years old. How old will {n} be in {b} years?"),
        plus("A truck carries {a} crates and loads {b} more. How many crates does it carry now?"),
        minus("{n} had {a} pencils and lost {b} of them. How many pencils are left?"),
        minus("A plane has {a} seats and {b} people are on board. How many seats are empty?"),
        minus("There were {a} grapes in a bowl. {n} ate {b}. How many grapes are still there?"),
        minus("A farmer picked {a} melons and sold {b} at the market. How many does he have left?"),
        minus("{n} bought a roll of {a} stamps and used {b}. How many stamps remain?"),
        minus("A candle was {a} cm tall and burned down {b} cm. How tall is the candle now?"),
        minus("The phone costs {a} dollars, but {n} has a coupon for {b}. What does {n} pay?"),
        minus("{a} children are in the pool and {b} get out. How many are in the pool now?"),
        minus("{n} has {a} cards and Tom has {b} cards. How many more cards does {n} have?"),
        minus_turned("{n} has mowed {a} lawns and wants to mow {b}. How many lawns are missing?"),
        times("A bag holds {a} potatoes. How many potatoes are in {b} bags?"),
        times("A sandwich costs {a} dollars. How much do {b} sandwiches cost?"),
        times("{n} does {a} push-ups a day. How many push-ups does {n} do in {b} days?"),
        times(
            "A building has {a} floors with {b} windows on each floor. How many windows is that?"
        ),
        times("A train car has {a} seats. How many seats do {b} cars have?"),
        times("{n} saves {a} dollars each month. How much does {n} save in {b} months?"),
        times("A cyclist rides {a} miles per hour for {b} hours. How many miles does he ride?"),
        times("{n} plants {a} rows with {b} onions in every row. How many onions are planted?"),
        times("One shirt has {a} buttons. How many buttons are on {b} shirts?"),
        times("A vet sees {a} pets every hour. How many pets does she see in {b} hours?"),
        over("{a} pancakes are shared equally by {b} campers. How many does each camper get?"),
        over("{n} puts {a} bottles into boxes of {b}. How many boxes does {n} need?"),
        over("A gardener plants {a} bulbs in {b} equal rows. How many bulbs are in each row?"),
        over("{a} students ride in {b} vans, the same number in each. How many are in each van?"),
        over("{n} has {a} dollars. One comic costs {b} dollars. How many comics can {n} buy?"),
        over("A plank of {a} feet is sawn into {b} equal parts. How long is each part?"),
        over("A pump moves {a} litres in {b} minutes. How many litres does it move per minute?"),
        over("{a} chairs stand in rows of {b}. How many rows are there?"),
        over("A prize of {a} dollars is divided equally by {b} winners. What does each one get?"),
        over_turned("{a} tickets cost {b} dollars in total. How much does one ticket cost?"),
        groups(
            "{n} picks {a} baskets of {b} pears and gives away {c} pears. How many are left?",
            lambda a, b, c: a * b - c,
        ),
        chain(
            "A bus has {a} riders. {b} get on and {c} get off. How many riders are there now?",
            lambda a, b, c: a + b - c,
        ),
        chain(
            "{n} has {a} dollars and buys {b} pies at {c} dollars each. How much money is left?",
            lambda a, b, c: a - b * c,
        ),
        chain(
            "A zoo has {a} lions, {b} bears and {c} wolves. How many animals is that?",
            lambda a, b, c: a + b + c,
        ),
        groups(
            "A shop gets {a} boxes of {b} mugs and {c} single mugs. How many mugs does it get?",
            lambda a, b, c: a * b + c,
        ),
        chain(
            "{n} had {a} marbles, gave {b} away and lost {c}. How many marbles are left?",
            lambda a, b, c: a - b - c,
        ),
        chain(
            "{a} girls and {b} boys form groups of {c}. How many groups are there?",
            lambda a, b, c: (a + b) / c,
        ),
        groups(
            "{n} buys {a} notebooks for {b} dollars each and a ruler for {c}. What is the total?",
            lambda a, b, c: a * b + c,
        ),
        chain(
            "A jar had {a} cookies. {n} ate {b} and baked {c} more. How many are there now?",
            lambda a, b, c: a - b + c,
        ),
        chain(
            "Of {a} plums {b} were bad. The rest went equally to {c} cooks. How many did each get?",
            lambda a, b, c: (a - b) / c,
        ),
        plus("{n} swam {a} laps in the morning and {b} laps at night. How many laps did {n} swim?"),
        plus("A hen house has {a} brown hens and {b} white hens. How many hens live there?"),
        plus("{n} wrote {a} emails yesterday and {b} today. How many emails did {n} write?"),
        plus("A library bought {a} novels and {b} atlases. How many books did it buy?"),
        plus("The tower is {a} metres high and gets a mast of {b} metres. How high is it then?"),
        plus("{n} owes {a} dollars to Ann and {b} dollars to Ben. How much does {n} owe?"),
        plus("A florist sold {a} roses and {b} lilies. How many flowers were sold?"),
        plus("{a} people wait in line and {b} join them. How many people wait now?"),
        minus("{n} blew up {a} balloons and {b} of them burst. How many balloons are left?"),
        minus("A tank held {a} litres of oil and {b} litres leaked out. How much oil is left?"),
        minus("{a} birds sat on a roof and {b} flew away. How many birds stayed?"),
        minus("A coat cost {a} dollars and became {b} dollars cheaper. What does it cost now?"),
        minus("A parcel with its box weighs {a} kilos. The box weighs {b} kilos. What is inside?"),
        minus("{n} invited {a} guests, but {b} could not come. How many guests came?"),
        minus("The queue had {a} cars. {b} of them drove on. How many cars are in the queue?"),
        minus("A rope of {a} feet was shortened by {b} feet. How long is it now?"),
        minus_turned("A film lasts {b} minutes. {n} has watched {a}. How many minutes are left?"),
        minus_turned("{n} has {a} dollars. A bike costs {b} dollars. How much is {n} short?"),
        times("A hotel has {a} rooms on each of its {b} floors. How many rooms does it have?"),
        times("{n} drinks {a} cups of tea a day. How many cups does {n} drink in {b} days?"),
        times("A ferry carries {a} cars per trip. How many cars does it carry in {b} trips?"),
        times("A necklace needs {a} pearls. How many pearls do {b} necklaces need?"),
        times("{n} types {a} pages an hour. How many pages does {n} type in {b} hours?"),
        times("A brush costs {a} euros. What is the price of {b} brushes?"),
        times("Every spider has {a} spots. How many spots do {b} spiders have?"),
        times("{n} sells {b} jars of honey for {a} dollars each. How much does {n} take in?"),
        over("{a} books are placed evenly on {b} shelves. How many books stand on each shelf?"),
        over("{n} ties {a} roses into bunches of {b}. How many bunches does {n} get?"),
        over("A bill of {a} dollars is shared equally by {b} people. What does each person pay?"),
        over("{a} children sit at {b} tables, as many at each. How many sit at one table?"),
        over("A hiker walks {a} kilometres in {b} days, the same each day. How far is that a day?"),
        over("A cook divides {a} grams of rice into {b} equal portions. How big is one portion?"),
        over("{n} needs {b} eggs for one cake. How many cakes can {n} bake with {a} eggs?"),
        over_turned("{a} equal bricks weigh {b} kilos together. What does one brick weigh?"),
        groups(
            "{n} fills {a} vases with {b} tulips each and has {c} tulips over. How many is that?",
            lambda a, b, c: a * b + c,
        ),
        groups(
            "A van brings {a} crates with {b} bottles each. {c} bottles break. How many are whole?",
            lambda a, b, c: a * b - c,
        ),
        chain(
            "{n} had {a} euros, earned {b} and spent {c}. How many euros does {n} have now?",
            lambda a, b, c: a + b - c,
        ),
        chain(
            "A train has {a} travellers. {b} get off and {c} get on. How many are on the train?",
            lambda a, b, c: a - b + c,
        ),
        chain(
            "A team scored {a}, {b} and {c} points in three rounds. How many points is that?",
            lambda a, b, c: a + b + c,
        ),
        chain(
            "{n} brings {a} muffins. {b} are eaten by friends and {c} by pupils. What is left?",
            lambda a, b, c: a - b - c,
        ),
    ],
}


def rows() -> Iterator[dict[str, object]]:
    """Every row, in the order of the file."""
    draw = random.Random(SEED)
    for split, templates in TEMPLATES.items():
        for number, template in enumerate(templates, start=1):
            problem, target = fill(template, draw)
            name = f"{split}-{number:02d}"
            yield {"id": name, "split": split, "input": problem, "target": str(target)}


def fill(template: Template, draw: random.Random) -> tuple[str, int]:
    """A problem of the template whose numbers differ and whose answer is a whole number above 1."""
    while True:
        a, b, c = map(draw.randint, template.low, template.high)
        answer = template.answer(a, b, c)
        if answer > 1 and answer == int(answer) and len({a, b, c}) == 3:
            return template.text.format(n=draw.choice(NAMES), a=a, b=b, c=c), int(answer)


def main() -> None:
    """Writes rows.jsonl beside this file."""
    path = Path(__file__).with_name("rows.jsonl")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} rows in {path.name}")


if __name__ == "__main__":
    main()
