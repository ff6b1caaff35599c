"""Common short words of English, most of which are one token in every large vocabulary."""

from __future__ import annotations

_WORDS = """
able about above across act action active actual add after again against age ago agree air
all allow almost alone along already also always among amount and animal another answer any
appear apply area argue arm army around arrive art ask attack author away baby back bad bag
ball bank bar base battle bear beat beautiful because become bed before begin behind believe
best better between beyond big bill bit black block blood blue board boat body bone book born
both bottom box boy branch bread break bridge bright bring broad brother brown budget build
burn bus business but buy call camp can capital captain car card care carry case cash cat
catch cause cell center central certain chain chair chance change charge check chief child
choice choose church circle city claim class clean clear client climate clock close cloud
coach coast coat code coffee cold collect college color come common company compare concern
consider contain content control cook cool copy corner cost could count country couple course
court cover create crime cross crowd culture cup current cut dark data daughter day dead deal
dear death debate decade decide deep degree deliver demand depend describe desert design desk
detail develop device die difference dinner direct discover distance doctor dog door double
doubt down draft draw dream dress drink drive drop dry due during dust duty each early earth
ease east easy eat edge education effect effort egg eight either electric else empty end
energy engine enjoy enough enter equal error escape even evening event ever every exact
example exist expect explain express extra eye face fact fail fair fall family famous far
farm fast father favor fear feature feed feel few field fight figure fill film final find
fine finger finish fire firm first fish five flat floor flow flower fly focus follow food
foot force foreign forest forget form forward found four frame free fresh friend from front
fruit fuel full fun future game garden gas gate gather general gift girl give glad glass goal
gold good government grass gray great green ground group grow guess guide gun guy hair half
hall hand happen happy hard hat hate have head health hear heart heat heavy height help here
hide high hill history hit hold hole holiday home hope horse hospital host hot hotel hour
house how huge human hundred hunt husband ice idea image imagine impact include income indeed
inside instead interest into iron island issue item job join journey judge jump just keep key
kid kill kind king kitchen knee know labor lack lady lake land language large last late laugh
law lay lead leaf learn least leave left leg legal lend less letter level library lie life
lift light like limit line link lip list listen little live load local long look lose lot
loud love low luck lunch machine main major make male man manage many map mark market master
match matter may maybe meal mean measure meat media meet member memory mention message metal
method middle might mile milk mind mine minute miss model modern moment money month moon more
morning most mother motion mountain mouth move movie much music must name narrow nation
nature near neck need never new news next nice night nine noise none nor north nose note
nothing notice novel now number object ocean off offer office officer often oil old once one
only open order other our out outside oven over own owner page pain paint pair paper parent
park part party pass past path pattern pay peace people per perfect perhaps period person
phone photo pick picture piece place plan plane plant plate play please plenty pocket poem
point police policy pool poor port position possible post pot pound power practice prepare
press pretty price prison private prize problem produce product profit program promise proof
proper protect proud prove public pull purpose push put quality queen question quick quiet
quite race radio rain raise range rate rather reach read ready real reason recall record red
reduce refer region remain remember remove repeat report require rest result return rice rich
ride right ring rise risk river road rock role roll roof room root rose round row rule run
safe sail salt same sand save say scale scene school science sea season seat second secret
section see seed seek seem sell send sense serve service set seven several shake shape share
sharp sheet ship shirt shoe shop short shot should shoulder show shut sick side sign silver
similar simple since sing single sister sit site situation six size skill skin sky sleep slow
small smile smoke snow soft soil soldier some son song soon sort soul sound source south
space speak special speech speed spend spirit sport spot spread spring square staff stage
stand standard star start state station stay steel step stick still stock stone stop store
storm story straight strange street strong student study style such sugar suit summer sun
supply support sure surface sweet swim system table tail take talk tall task taste tax teach
team tell ten term test text than thank that then theory there they thick thin thing think
third thirty this those thought thousand three through throw thus ticket tie till time tiny
title today together tomorrow tone too tool top total touch tour toward tower town track
trade train travel treat tree trial trip trouble truck true trust truth try turn twelve
twenty two type under union unit until upon use usual valley value very video view village
visit voice vote wait walk wall want war warm wash watch water wave way wear weather week
weight well west wet what wheel when where which while white who whole why wide wife wild
will win wind window wine wing winter wish with within woman wonder wood word work world
worry worth would write wrong yard year yellow yes yet you young youth zero
"""

CANDIDATE_WORDS: tuple[str, ...] = tuple(_WORDS.split())
